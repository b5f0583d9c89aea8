"""Embedding files as bytes: read with care, written the same from the same."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from evoken.arrays import PathLike, Vectors
from evoken.errors import EvokenError, ModelError, WordError, reason_of, shown
from evoken.models.contents import check_is_file
from evoken.words.layouts import BUNDLE, Embedding, only, parse
from evoken.words.picture import is_picture, read_picture
from evoken.words.places import WORD_FILE as WORD_FILE
from evoken.words.places import check_size, place_of, second_of
from evoken.words.torch_file import read_torch, unpacked_size

MAX_ENTRIES = 64  # a word has a handful; a checkpoint, hundreds, which need not be read


def read_embedding(path: PathLike) -> Embedding:
    """Read a word from any program's embedding file, or from a run folder.

    Args:
        path: the file or folder; FILE#NAME of one word among several in a file; a hub id, or
            OWNER/NAME/FILE of the hub.

    Safetensors, the .pt and .bin files of torch through its weights-only loader, which runs no
    code of the file, and A1111's pictures; each is told by its content, whatever its name.

    Raises:
        WordError: no such file, or none of one word's vectors; the hub cannot be asked.
    """
    try:
        file, name = place_of(path)
        content, header = _read(file)
        found = parse(only(content, name, file) if name else content, header, file)
        other = second_of(file)
        return found.with_encoders(parse(*_read(other), other), other) if other else found
    except EvokenError:
        raise
    except Exception as error:  # of what kind depends on where a file is damaged
        reason = reason_of(error).partition(". ")[0]  # torch goes on to advise running its code
        raise WordError(
            f"could not read {shown(Path(path))} as an embedding file (.safetensors, or .pt or "
            f".bin with tensors alone): {reason}.",
            "Check that the file is complete, and what it is.",
        ) from error


def _read(file: Path) -> tuple[Any, dict[str, str]]:
    try:
        check_is_file(file)
    except ModelError as error:
        raise WordError(*error.args) from error
    check_size(file, max(file.stat().st_size, unpacked_size(file)))
    with file.open("rb") as stream:
        start = stream.read(12)
    if is_picture(start):
        return read_picture(file), {}
    if start[8:9] != b"{":  # safetensors: eight bytes of length, then JSON
        return read_torch(file), {}
    with safe_open(file, "pt") as content:
        names = list(content.keys())
        names = [n for n in names if n.startswith(BUNDLE)] or names
        if len(names) > MAX_ENTRIES:
            raise WordError(
                f"{shown(file)} has {len(names)} entries, but the vectors of one word are at most "
                f"{MAX_ENTRIES}.",
                "Give the word's own file, not a model's.",
            )
        tensors = {name: content.get_tensor(name) for name in names}
        return tensors, content.metadata() or {}


def safetensors_bytes(tensors: Mapping[str, Vectors], header: Mapping[str, str]) -> bytes:
    """A safetensors file of float32 tensors.

    Differs: the library's own writer puts the header's entries in any order; here, the same word is
    the same file.

    Raises:
        WordError: a tensor has the name under which the format keeps the header.
    """
    if "__metadata__" in tensors:
        raise WordError(
            "the word cannot be called '__metadata__', which the file format keeps for its header.",
            "Use a name like '<teapot>'.",
        )
    described: dict[str, Any] = {"__metadata__": dict(sorted(header.items()))}
    parts: list[bytes] = []
    end = 0
    for name, tensor in sorted(tensors.items()):
        parts.append(tensor.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes())
        start, end = end, end + len(parts[-1])
        shape = list(tensor.shape)
        described[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "replace"
    )
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def pt_bytes(content: Mapping[str, Any]) -> bytes:
    """A .pt file that A1111 opens.

    A1111 and Forge refuse an archive with members that their check does not know, as torch has
    written them since 2.7; only what every version knows is kept, and dates are left out.
    """
    written = io.BytesIO()
    torch.save(dict(content), written)
    kept = io.BytesIO()
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(kept, "w") as target:
        for name in source.namelist():
            member = name.partition("/")[2]
            if member in ("data.pkl", "version") or member.startswith("data/"):
                target.writestr(zipfile.ZipInfo(name), source.read(name))
    return kept.getvalue()
