"""Files of torch (.pt and .bin), through its loader that runs no code of a file.

That loader makes objects only of classes that it knows. The few more that programs put into files
of words are made as the stand-ins below, which hold what the file says and do nothing: neither
torch's modules nor numpy get to see it.
"""

import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from evoken.errors import WordError, shown

# Numbers of numpy by the codes of their types, as ``struct`` calls them.
NUMBERS = {
    "b1": "?",
    **{"i1": "b", "i2": "h", "i4": "i", "i8": "q"},
    **{"u1": "B", "u2": "H", "u4": "I", "u8": "Q"},
    **{"f2": "e", "f4": "f", "f8": "d"},
}


class _ParameterDict:
    """In place of torch's, which is what the authors of textual inversion save."""

    def __setstate__(self, state: Any) -> None:
        self.entries = state["_parameters"]


class _DType:
    """In place of a numpy type."""

    def __init__(self, code: str = "", *_: object) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """In place of a numpy array, which no word is read from."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _scalar(kind: _DType, data: bytes) -> bool | int | float | str | None:
    """What a numpy scalar says: a number or a text; None for other kinds."""
    if kind.code.startswith("U"):
        return data.decode("utf-32-be" if kind.order == ">" else "utf-32-le").rstrip("\0")
    if kind.code not in NUMBERS:
        return None
    value: bool | int | float = struct.unpack(kind.order + NUMBERS[kind.code], data)[0]
    return value


STAND_INS: list[Any] = [
    (_ParameterDict, "torch.nn.modules.container.ParameterDict"),
    (_DType, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    # Before and since numpy 2.
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_Array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]


def unpacked_size(file: Path) -> int:
    """Bytes that a file has once it is unpacked, if it is an archive; else its own size."""
    if not zipfile.is_zipfile(file):
        return file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        return sum(member.file_size for member in archive.infolist())


def _check_is_torch(file: Path) -> None:
    """Raise ``WordError`` for what torch never writes, of which its loader says nothing useful."""
    with file.open("rb") as stream:
        start = stream.read(4)
    if start == b"PK\3\4" and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            found = any(name.endswith("data.pkl") for name in archive.namelist())
    else:
        found = start[:1] == b"\x80" or start == b"PK\3\4"  # of old versions of torch, or cut short
    if not found:
        raise WordError(
            f"{shown(file)} is no embedding file: neither safetensors nor a file of torch nor a "
            "picture with a word in it.",
            "Give the .safetensors, .pt, .bin or .png file of a word.",
        )


def _check_archive(file: Path) -> None:
    """Raise ``WordError`` for an archive with a checksum that does not fit, which torch's loader
    does not look at.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        wrong = archive.testzip()
    if wrong is not None:
        raise WordError(
            f"{shown(file)} is damaged (the checksum of {shown(wrong)} does not fit).",
            "Copy or download it again.",
        )


def read_torch(file: Path) -> Any:
    """What a file of torch holds: tensors, numbers and texts, in dicts and lists.

    Raises:
        WordError: it is an archive that is not as it was written, or it holds something else, which
            only code of the file could make.
    """
    _check_is_torch(file)
    _check_archive(file)
    try:
        # From a stream: of a path, the loader believes the suffix.
        with torch.serialization.safe_globals(STAND_INS), file.open("rb") as stream:
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:
        said = str(error)
        if not said.startswith("Weights only load failed"):
            raise
        named = re.search(r"GLOBAL ([\w.]+)", said)
        what = f"it calls for {shown(named[1])}" if named else "it is damaged or holds more"
        raise WordError(
            f"{shown(file)} is no embedding file of tensors, numbers and texts alone ({what}); "
            "nothing is ever run.",
            "Use another copy, best a .safetensors file.",
        ) from error
    if not isinstance(content, dict):
        return content
    return {k: v.entries if isinstance(v, _ParameterDict) else v for k, v in content.items()}
