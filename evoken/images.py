"""Reading a folder of images: every common kind of file, checked, upright, square, in [-1, 1]."""

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from evoken.arrays import Images, PathLike
from evoken.errors import ImageError, reason_of, shown

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MIN_SIDE = 16
MAX_PIXELS = 120_000_000  # about 11,000 x 11,000; decoded once, at most 0.5 GB


@dataclass(frozen=True)
class ImageSet:
    """The images of a concept, N x 3 x S x S, with the names and hashes of their files."""

    images: Images
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    ignored: tuple[str, ...] = ()  # files in the folder that do not look like images


def load_images(path: PathLike, size: int) -> ImageSet:
    """Read one image file, or every image of a folder in order of file name.

    Files without the suffix of an image are skipped and listed in ``ignored``. Each image is turned
    upright (EXIF), put on white if it is transparent, cropped to its central square and resized.

    Args:
        size: side of the result in pixels.

    Raises:
        ImageError: the path does not exist, holds no images, or an image cannot be used.
    """
    chosen, ignored = _chosen(Path(path))
    contents = [read(p) for p in chosen]
    tensors = [to_tensor(square(decode(c, p), size)) for c, p in zip(contents, chosen, strict=True)]
    return ImageSet(
        torch.cat(tensors),
        tuple(p.name for p in chosen),
        tuple(hashlib.sha256(c).hexdigest() for c in contents),
        tuple(p.name for p in ignored),
    )


def check_images(path: PathLike) -> None:
    """Raise what ``load_images`` would: before a model is loaded, which takes long."""
    for file in _chosen(Path(path))[0]:
        decode(read(file), file)


def _chosen(path: Path) -> tuple[list[Path], list[Path]]:
    """The files at a path that are images by their names, and those that are not."""
    try:
        files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "it does not exist" if missing else reason_of(error)
        raise ImageError(
            f"could not read pictures from {shown(path)}: {reason}.",
            "Check the spelling of the path.",
        ) from error
    files = [p for p in files if not p.name.startswith(".")]
    chosen = [p for p in files if p.suffix.lower() in SUFFIXES]
    if not chosen:
        names = f"none of its files ({len(files)}) ends in {', '.join(SUFFIXES)}"
        reason = names if files else "it is an empty folder"
        raise ImageError(
            f"found no image in {shown(path)}: {reason}.",
            "Put some pictures there; to learn a word, three to five of one object or one style.",
        )
    return chosen, [p for p in files if p not in chosen]


def read(path: Path) -> bytes:
    """A file's content; raises ``ImageError`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"could not read {shown(path)}: {reason_of(error)}.", "Check its permissions."
        ) from error


def decode(content: bytes, path: Path) -> Image.Image:
    """One image file as upright RGB; of an animation, its first picture.

    Raises:
        ImageError: not an image, truncated, under 16 px or over 120 megapixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content))
        _check_size(image, path)
        image.load()
        image = ImageOps.exif_transpose(image)
    except Image.DecompressionBombError:
        raise ImageError(
            f"{shown(path)} has far more than {MAX_PIXELS // 10**6} megapixels, the most allowed.",
            "Make it smaller first.",
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{shown(path)} is not an image.", "Remove it, or save it again as PNG."
        ) from None
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ImageError(
            f"{shown(path)} is damaged ({reason_of(error)}).", "Copy the file again, or remove it."
        ) from None
    return _rgb(image)


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


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: 16 bits scaled to 8, transparency on white."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if values.max() > 255 else 255.0
        image = Image.fromarray((values.clip(0, top) / top * 255).round().astype(np.uint8))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def square(image: Image.Image, size: int) -> Image.Image:
    """The middle square, resized to size x size."""
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def counted(count: int) -> str:
    """The number of pictures in words: "1 picture", "4 pictures"."""
    return f"{count} picture" if count == 1 else f"{count} pictures"


def to_tensor(image: Image.Image) -> Images:
    """RGB picture to 1 x 3 x H x W in [-1, 1]."""
    pixels = torch.from_numpy(np.asarray(image).copy())
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def to_pictures(images: Images) -> list[Image.Image]:
    """N x 3 x H x W in [-1, 1] to RGB pictures."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pixels]


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file's content."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def grid(pictures: list[Image.Image], columns: int, gap: int = 2, scale: int = 1) -> Image.Image:
    """Pictures of one size side by side, row by row, on white; ``scale`` enlarges whole pixels."""
    width, height = (side * scale for side in pictures[0].size)
    rows = -(-len(pictures) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    for i, picture in enumerate(pictures):
        enlarged = picture.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (i % columns * (width + gap), i // columns * (height + gap)))
    return sheet
