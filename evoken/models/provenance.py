"""What a word was learned with, the weights and the versions, and what of it others may read."""

import hashlib
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from huggingface_hub import try_to_load_from_cache

from evoken.models.embedded import EMBEDDED, STICKERS
from evoken.version import __version__

PACKAGES = ("torch", "diffusers", "transformers")
DENOISERS = ("unet", "transformer")  # folders of a pipeline


def versions() -> dict[str, str]:
    """Of this program and of what its numbers depend on."""
    return {"evoken": __version__} | {name: version(name) for name in PACKAGES}


def weights_hash(model: str) -> str:
    """The SHA-256 of a model's file, or of its denoiser's files in the order of their names; ""
    where they are not found.

    Args:
        model: the name in a ``ModelSpec``.
    """
    digest = hashlib.sha256()
    files = _files(model)
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 24):
                digest.update(block)
    return digest.hexdigest() if files else ""


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
    path = STICKERS / model if model in EMBEDDED else Path(model).expanduser()
    if path.is_file():
        return [path]
    if is_hub_id(model):
        repo, revision = repository(model)
        index = try_to_load_from_cache(repo, "model_index.json", revision=revision)
        if isinstance(index, str):
            path = Path(index).parent
    return sorted(f for name in DENOISERS for f in (path / name).glob("*.safetensors"))
