"""Decoding one picture: every common kind of file to 8 bits, upright, with what its alpha says."""

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from evoken.errors import ImageError, reason_of, shown
from evoken.quiet import quiet

# What a picture may be by its content. Others that Pillow knows need programs of their own (EPS) or
# hold no photographs.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF", "ICO"),
    *("JPEG2000", "PPM", "PCX", "QOI", "TGA"),  # TGA last: it has no mark to know it by
)
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
MIN_SIDE = 16
MAX_PIXELS = 120_000_000  # about 11,000 x 11,000; decoded once, at most 0.5 GB
GROUNDS = (255, 128, 0)  # white, grey and black, for what is transparent
APART = 64  # levels of 255, in the root mean square of the channels: colours that differ plainly
MOST_COLOURED = 0.01  # of a mask: programs put a mark or a coloured edge into some
DARK = 16  # of a picture that is darker than a 16th of white, the brightest value becomes white


def read(path: Path) -> bytes:
    """A file's content; raises ``ImageError`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        # os.path, as a path's own methods raise where nobody may look.
        leads_nowhere = isinstance(error, FileNotFoundError) and os.path.islink(path)
        fix = "It is a link that leads nowhere: remove it." if leads_nowhere else ""
        raise ImageError(
            f"could not read {shown(path)}: {reason_of(error)}.", fix or "Check its permissions."
        ) from error


def decode(content: bytes, path: Path) -> Image.Image:
    """One image file as upright RGB; of an animation, its first picture.

    Raises:
        ImageError: not an image, truncated, under 16 px or over 120 megapixels.
    """
    return decode_with_alpha(content, path)[0]


def decode_with_alpha(content: bytes, path: Path) -> tuple[Image.Image, Image.Image | None]:
    """As ``decode``; and how visible each pixel is, from 0 to 255, or None of a file without
    transparency.
    """
    found = decode_whole(content, path)
    alpha = found.own.getchannel("A") if found.own.mode == "RGBA" else None
    return found.picture, alpha


@dataclass(frozen=True)
class Decoded:
    """A picture's file with all that another one can be made of.

    Attributes:
        picture: upright RGB; what is transparent is on a ground.
        own: the same as the file has it, RGB or RGBA.
        exif: what the camera wrote, but for how it was held; b"" for nothing.
        profile: the colour profile, where it is one of RGB; b"" for none.
    """

    picture: Image.Image
    own: Image.Image
    exif: bytes = b""
    profile: bytes = b""


@quiet()
def decode_whole(content: bytes, path: Path) -> Decoded:
    """One image file with its transparency and what is written beside its pixels; errors as of
    ``decode``.
    """
    image = _upright(content, path)
    about = (_exif(image), _profile(image))
    if not _transparent(image):
        plain = image.convert("RGB")
        return Decoded(plain, plain, *about)
    image = image.convert("RGBA")
    ground = Image.new("RGBA", image.size, (*[_ground(image)] * 3, 255))
    return Decoded(Image.alpha_composite(ground, image).convert("RGB"), image, *about)


def _exif(image: Image.Image) -> bytes:
    """What the camera wrote; b"" for nothing, or nothing that can be written again."""
    try:
        exif = image.getexif()
        return exif.tobytes() if exif else b""
    except Exception:  # of what kind depends on what the camera's maker thought of
        return b""


def _profile(image: Image.Image) -> bytes:
    """The colour profile, if it is one of RGB, as the decoded picture is."""
    found = image.info.get("icc_profile") or b""
    return found if image.mode in ("RGB", "RGBA", "P", "PA") and found[16:20] == b"RGB " else b""


@quiet()
def decode_mask(content: bytes, path: Path) -> Image.Image:
    """A mask's file as upright levels of grey; what is transparent is black.

    Raises:
        ImageError: as of ``decode``; or it is in colours, whose brightness would say nothing.
    """
    image = _upright(content, path)
    if _transparent(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if _coloured(image) > MOST_COLOURED:
        raise ImageError(
            f"the mask {shown(path)} is in colours, but must be white where it counts and black "
            "elsewhere.",
            "Paint it in black and white.",
        )
    return image.convert("L")


def _coloured(image: Image.Image) -> float:
    """The share of pixels that are plainly no grey."""
    if image.mode in ("1", "L"):
        return 0.0
    levels = np.asarray(image.convert("RGB"))
    return float((levels.max(2) - levels.min(2) > APART).mean())


@quiet()  # Pillow warns of every oddity that it can do without
def _upright(content: bytes, path: Path) -> Image.Image:
    """A picture in 8 bits as it is to be seen, in any mode; errors as of ``decode``."""
    try:
        try:
            image, tops = _opened(content, path)
        except ValueError:  # a limit of Pillow's: programs write their workflows into PNGs
            image, tops = _opened(_without_texts(content), path)
        image = ImageOps.exif_transpose(image)
    except Image.DecompressionBombError:
        raise ImageError(
            f"{shown(path)} has far more than {MAX_PIXELS // 10**6} megapixels, the most allowed.",
            "Make it smaller first.",
        ) from None
    except UnidentifiedImageError:
        raise _not_read(content, path) from None
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ImageError(
            f"{shown(path)} is damaged ({reason_of(error)}).", "Copy the file again, or remove it."
        ) from None
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image, tops, path)
    return image


def _opened(content: bytes, path: Path) -> tuple[Image.Image, tuple[int, ...]]:
    """A picture with its pixels, and the numbers that may be white in it (see ``_tops``)."""
    formats: tuple[str, ...] = FORMATS
    if content[4:8] == b"ftyp" and content[8:12] in HEIC:
        formats = (*FORMATS, *_heic())
    image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
    _check_size(image, path)
    tops = _tops(image)
    image.load()
    return image, tops


def _heic() -> tuple[str, ...]:
    """The format that reads HEIC, where its package is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return ()
    register_heif_opener()
    return ("HEIF",)


def _not_read(content: bytes, path: Path) -> ImageError:
    """The error for a file that no reader takes."""
    if content[4:8] == b"ftyp" and content[8:12] in HEIC:
        if _heic():
            return ImageError(f"{shown(path)} is damaged.", "Copy the file again, or remove it.")
        return ImageError(
            f"{shown(path)} is a HEIC picture, which this installation cannot read.",
            "Save it again as JPEG, or type: pip install 'evoken[heic]'",
        )
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return ImageError(
            f"{shown(path)} is a TIFF of a kind that cannot be read.", "Save it again as PNG."
        )
    return ImageError(f"{shown(path)} is not an image.", "Remove it, or save it again as PNG.")


def _without_texts(content: bytes) -> bytes:
    """A PNG without its texts and colour profile; anything else, and what is cut off, as it is."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    kept, at = [content[:8]], 8
    while at + 8 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(content[at:end])
        at = end
    return b"".join([*kept, content[at:]])


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{shown(path)} must have at least {MIN_SIDE} x {MIN_SIDE} pixels (got {width} x "
            f"{height}).",
            "Use a larger picture.",
        )
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{shown(path)} must have at most {MAX_PIXELS // 10**6} megapixels (got {width} x "
            f"{height} pixels).",
            "Make it smaller first.",
        )


def _tops(image: Image.Image) -> tuple[int, ...]:
    """The numbers that may be white in a picture of one channel, by how it was written, from the
    least: what 8, 16 and 32 bits hold, with or without a sign; for floats 1, too.
    """
    if image.mode == "F":
        return (1, 2**8 - 1, 2**16 - 1)
    bits, signed = 32, True
    if isinstance(image, TiffImageFile):
        bits, signed = image.tag_v2.get(258, (1,))[0], image.tag_v2.get(339, (1,))[0] == 2
    most = 2 ** (bits - signed) - 1
    return tuple(sorted({most, *(top for top in (2**8 - 1, 2**16 - 1) if top < most)}))


def _eight_bits(image: Image.Image, tops: tuple[int, ...], path: Path) -> Image.Image:
    """One channel of whole numbers or floats to levels up to 255.

    White is the first of ``tops`` that is not exceeded, or the brightest value of a picture that
    exceeds all or would be all but black.

    Raises:
        ImageError: there are values that are no brightness.
    """
    raw = np.asarray(image)
    if tops[-1] == 2**32 - 1 and raw.dtype == np.int32:  # Pillow reads them as if they had a sign
        raw = raw.view(np.uint32)
    values = raw.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all():
        raise ImageError(
            f"{shown(path)} has pixels that are no number.", "Save it again as PNG, or remove it."
        )
    if low < -0.1 * max(high, 0):  # a little less than nothing comes from resizing
        raise ImageError(
            f"{shown(path)} must have no negative brightness (got {low:g} to {high:g}).",
            "Save it again as PNG, or remove it.",
        )
    top = next((float(t) for t in tops if high <= t), high)
    white = high if high * DARK < top else top
    return Image.fromarray((values.clip(0) / (white or 1) * 255).round().astype(np.uint8))


def _transparent(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")


def _ground(image: Image.Image) -> int:
    """The level of grey that most of what is visible in an RGBA picture differs from; white where
    that is no worse.
    """
    small = image.reduce(max(1, max(image.size) // 512))
    pixels = np.asarray(small).reshape(-1, 4).astype(np.float64)
    colours, weights = pixels[:, :3], pixels[:, 3]
    if not weights.any():
        return GROUNDS[0]

    def apart(ground: int) -> float:
        distances = np.sqrt(((colours - ground) ** 2).mean(1)).clip(max=APART)
        return round(float(distances @ weights / weights.sum() / APART), 2)

    return max(GROUNDS, key=apart)  # the first of equals
