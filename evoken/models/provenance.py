"""What a word was learned with, the weights and the versions, and what of it others may read."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from huggingface_hub import try_to_load_from_cache

from evoken.models.embedded import EMBEDDED, STICKERS
from evoken.version import __version__

PACKAGES = ("torch", "diffusers", "transformers")
DENOISERS = ("unet", "transformer")  # folders of a pipeline
CLIP = "CLIP model"
ALSO = "second model"
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "chat_template.jinja",
)


def versions() -> dict[str, str]:
    """Of this program and of what its numbers depend on."""
    return {"evoken": __version__} | {name: version(name) for name in PACKAGES}


def weights_hash(model: str) -> str:
    """The SHA-256 of a model's file, or of its denoiser's files in the order of their names; ""
    where they are not found.

    Args:
        model: the name in a ``ModelSpec``.
    """
    return _hash(_files(model))


def part_hashes(model: str, clip: str, also: str = "") -> dict[str, str]:
    """SHA-256 of what else decides about a run: weights and vocabularies of the other parts of a
    pipeline's folder or hub id, of the CLIP model and of a second model, by their names.

    Args:
        model: the name in a ``ModelSpec``.
        clip: the name of a CLIP model, or "".
        also: the name of the second model, or "".
    """
    folder, found = _folder(model), {}
    if folder and model not in EMBEDDED:
        parts = (p for p in sorted(folder.iterdir()) if p.is_dir() and p.name not in DENOISERS)
        found = {part.name: _hash(_read_from(part)) for part in parts}
    if clip and clip not in EMBEDDED and (where := _folder(clip, "config.json")):
        found[CLIP] = _hash(_read_from(where))
    if also:
        found[ALSO] = weights_hash(also)
    return {name: digest for name, digest in found.items() if digest}


def file_hash(file: Path) -> str:
    """The SHA-256 of a file's bytes."""
    return _hash([file])


def _hash(files: Sequence[Path]) -> str:
    """Of the bytes of all files, one after the other; "" of none."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 24):
                digest.update(block)
    return digest.hexdigest() if files else ""


def _read_from(part: Path) -> list[Path]:
    files = (p for p in part.iterdir() if p.is_file())
    return sorted(p for p in files if p.suffix == ".safetensors" or p.name in VOCABULARIES)


def repository(model: str) -> tuple[str, str | None]:
    """A hub id without the revision that may follow it after "@", and that revision."""
    name, _, revision = model.partition("@")
    return name, revision or None


def is_hub_id(model: str) -> bool:
    """Whether a model's name is that of a repository of the hub."""
    plain = repository(model)[0].count("/") == 1 and not model.startswith((".", "/", "~"))
    return plain and not Path(model).expanduser().exists()


def public_name(model: str) -> str:
    """A model's name where others read it: of a path, its last part."""
    return model if model in EMBEDDED or is_hub_id(model) else Path(model).name


def without_paths(values: Mapping[str, Any]) -> dict[str, str]:
    """What a file or a page says, where others read it: of a path, its last part."""
    return {name: _without_path(value) for name, value in values.items()}


def _without_path(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_without_path, value))
    text = str(value)
    if re.match(r"[A-Za-z]:[\\/]|\\\\", text):
        return PureWindowsPath(text).name
    is_path = isinstance(value, PurePath) or text.startswith(("/", "~", "./", "../"))
    return PurePath(text).name if is_path else text


def _files(model: str) -> list[Path]:
    """A single file, or the safetensors of the denoiser of a pipeline's folder or hub id."""
    path = Path(model).expanduser()
    if path.is_file() and model not in EMBEDDED:
        return [path]
    folder = _folder(model)
    parts = [folder / name for name in DENOISERS] if folder else []
    return sorted(p for part in parts for p in part.glob("*.safetensors") if p.is_file())


def _folder(model: str, index: str = "model_index.json") -> Path | None:
    """Where an embedded model, a folder or the copy of a hub id is; None where there is none.

    Args:
        index: a file that lies in the folder of every model of its kind.
    """
    path = STICKERS / model if model in EMBEDDED else Path(model).expanduser()
    if is_hub_id(model):
        repo, revision = repository(model)
        kept = try_to_load_from_cache(repo, index, revision=revision)
        return Path(kept).parent if isinstance(kept, str) else None
    return path if path.is_dir() else None
