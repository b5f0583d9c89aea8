"""Words inside pictures, as A1111 shares them: as a text of the PNG and, for programs that drop
texts, once more in its pixels.

Source: A1111's modules/textual_inversion/image_embedding.py.
"""

import base64
import json
import warnings
import zlib
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evoken.errors import WordError, shown

TEXT = "sd-ti-embedding"
STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM")
MAX_PIXELS = 2**25
MAX_HIDDEN = 2**23  # bytes of a word in pixels; those of 75 vectors are 2 MB


def is_picture(start: bytes) -> bool:
    """Whether a file with these first bytes, at least 12, is a picture."""
    return (
        start.startswith(STARTS)
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"heic"))
    )


def read_picture(file: Path) -> Any:
    """The entries of the word in a picture, as in A1111's .pt files.

    Raises:
        WordError: there is none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise _no_word(file)
            text = picture.info.get(TEXT)
            if text is None:
                text = getattr(picture, "text", {}).get(TEXT)  # of those behind the pixels too
            if isinstance(text, str):
                return _decoded(base64.b64decode(text))
            hidden = _hidden(np.asarray(picture.convert("RGB")))
    if not hidden:
        raise _no_word(file)
    return _decoded(hidden)


def _decoded(content: bytes) -> Any:
    def tensor(entries: dict[str, Any]) -> Any:
        values = entries.get("TORCHTENSOR")
        return entries if values is None else torch.tensor(values)

    return json.loads(content, object_hook=tensor)


def _hidden(pixels: NDArray[np.uint8]) -> bytes:
    """What is hidden beside the picture proper; b"" where nothing is.

    Left of it, behind a black column, are the lower halves of bytes, and right of it the upper
    ones: each in the lower half of a pixel's value, whose upper half is decoration.
    """
    lit = np.all(pixels > 0, axis=2)
    rows, columns = (np.flatnonzero(np.any(lit, axis)) for axis in (1, 0))
    if not len(rows):
        return b""
    inner = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 15
    black = np.flatnonzero(np.all(inner == 0, axis=(0, 2)))
    if len(black) < 2:
        return b""
    low, high = inner[:, : black[0]], inner[:, black[-1] + 1 :]
    if low.shape != high.shape or not 0 < low.size <= MAX_HIDDEN:
        return b""
    mask = _mask(low.size)
    content = (low.ravel() ^ mask) | (high.ravel() ^ mask) << 4
    unpacking = zlib.decompressobj()
    try:
        found = unpacking.decompress(content.tobytes(), 8 * MAX_HIDDEN)
    except zlib.error:
        return b""
    return found if unpacking.eof else b""


def _mask(count: int) -> NDArray[np.uint8]:
    """The half bytes that the hidden ones are mixed with: a linear congruential generator's."""
    numbers = accumulate(repeat(0, count + 1), lambda x, _: (1664525 * x + 1013904223) % 2**32)
    next(numbers)
    return np.fromiter((x % 255 & 15 for x in numbers), np.uint8, count)


def _no_word(file: Path) -> WordError:
    return WordError(
        f"{shown(file)} is a picture without a word in it.",
        "Give the PNG that A1111 wrote when it learned the word: other programs and many web sites "
        "save it without the word.",
    )
