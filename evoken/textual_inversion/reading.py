"""CLIP's reading of a whole vocabulary, which a start by Eq. 4 compares the images with.

Tens of thousands of texts are minutes of a CPU's work, and the same for every word that is learned:
they are read once for a CLIP, and kept beside the exported denoisers.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from evoken.cache import cache_root, fingerprint
from evoken.errors import RunError, SettingError
from evoken.files import write_bytes
from evoken.models.batches import one_thread_each
from evoken.models.clip import BATCH, Clip

MANY = 10_000  # texts; fewer are quick, and read anew every time


def text_features(clip: Clip, texts: Sequence[str]) -> Tensor:
    """N x width, as ``clip.text_features``; of many texts what was kept.

    Raises:
        SettingError: they cannot be kept.
    """
    if len(texts) < MANY:
        with one_thread_each():
            return clip.text_features(texts)
    ids = clip.text_ids(texts)
    file = _file(clip, ids)
    for _ in _read(clip, ids, file):
        pass
    return _kept(file)


def read(clip: Clip, texts: Sequence[str]) -> Iterator[int]:
    """Read many texts, so that ``text_features`` has them at once; yields how many are done, and
    nothing where nothing is to do.

    Raises:
        SettingError: they cannot be kept.
    """
    if len(texts) >= MANY:
        ids = clip.text_ids(texts)
        yield from _read(clip, ids, _file(clip, ids))


def _read(clip: Clip, ids: Tensor, file: Path) -> Iterator[int]:
    try:
        _kept(file)
        return
    except (OSError, SafetensorError, KeyError):  # not there, or not as it was written
        pass
    parts: list[Tensor] = []
    for part in ids.split(BATCH):
        with one_thread_each():  # what is kept must not depend on the cores of this machine
            parts.append(clip.features_of_ids(part))
        yield sum(map(len, parts))
    try:
        write_bytes(file, save({"features": torch.cat(parts)}))
    except RunError as error:
        raise SettingError(error.problem, "Set EVOKEN_CACHE to another folder.") from error


def _kept(file: Path) -> Tensor:
    return load(file.read_bytes())["features"]  # a file that is only mapped must not change


def _file(clip: Clip, ids: Tensor) -> Path:
    """Named by all that the features depend on."""
    texts = hashlib.sha256(ids.numpy().data).hexdigest()
    about = (torch.__version__, clip.device.type, texts)
    reader = torch.nn.ModuleList([clip.model.text_model, clip.model.text_projection])
    return cache_root() / f"clip-{fingerprint(reader, [], about)}.safetensors"
