"""What a picture may have beside it: a mask of the thing, and a caption.

Source: the layouts of OneTrainer (cat-masklabel.png, cat.txt) and sd-scripts (cat.txt,
cat.caption).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from evoken.arrays import Masks
from evoken.decoding import decode_mask, read
from evoken.errors import ImageError, shown

MASKS = (".mask.png", "-masklabel.png", "-mask.png")
CAPTIONS = (".txt", ".caption")
METADATA = ("metadata.jsonl", "metadata.csv")  # of data sets of the hub; captions are in some
LEAST_WHITE = 128  # level of 255 that a mask reaches where something is to change
MOST_BLACK = 2  # level of 255 up to which nothing may: JPEG and scaling leave black not quite black


@dataclass(frozen=True)
class Annotations:
    """Of images in their order.

    Attributes:
        masks: N x 1 x S x S, 1 where an image has none; None if no image has one.
        captions: one for each image, "" where it has none; empty if no image has one.
    """

    masks: Masks | None = None
    captions: tuple[str, ...] = ()

    def chosen(self, masks: bool, captions: bool) -> "Annotations":
        """Only those that are wanted."""
        return Annotations(self.masks if masks else None, self.captions if captions else ())

    @property
    def masked(self) -> tuple[bool, ...]:
        """For each image, whether it has a mask; empty if none has."""
        return () if self.masks is None else tuple((self.masks.amin((1, 2, 3)) < 1).tolist())


NONE = Annotations()


def is_file(path: Path) -> bool:
    """Whether something is to be read there. A link that leads nowhere, or where nobody may look,
    is a file: whoever made it wants one to be read.
    """
    try:
        return path.is_file() or (path.is_symlink() and not path.exists())
    except OSError:
        return True


def is_mask(path: Path, stems: Collection[str]) -> bool:
    """Whether a file is a mask by its name, whose ending may be in capitals.

    Args:
        stems: of the pictures in its folder. What ends in -mask.png may be a picture of a mask, and
            is one if nothing is called like the rest of its name.
    """
    stem, end = _parted(path, MASKS)
    return bool(end) and (end != "-mask.png" or stem in stems)


def check_mask_names(pictures: Sequence[Path]) -> None:
    """Raise ``ImageError`` where one of the pictures is called like the mask of another and is no
    PNG file.
    """
    stems = {picture.stem for picture in pictures}
    for file in pictures:
        stem, end = _parted(png := file.with_suffix(".png"), MASKS)
        if end and stem in stems and file.suffix.lower() != ".png":
            fix = "Remove it" if png.exists() else f"Save it as {shown(png.name)}"
            raise ImageError(
                f"{shown(file)} has the name of a mask, which must be a PNG file.",
                f"{fix}, or learn without masks (`masks`); a picture needs another name.",
            )


def masks_of(stems: Collection[str], files: Sequence[Path]) -> dict[str, Path]:
    """Of the files of a folder, the masks of its pictures, by the pictures' stems."""
    return _first(stems, files, MASKS)


def stray_captions(stems: Collection[str], files: Sequence[Path]) -> list[Path]:
    """Of the files of a folder, those that somebody may take for captions and that are none.

    Args:
        stems: of the pictures in it.
    """
    read = _first(stems, files, CAPTIONS).values()
    captions = (p for p in files if _parted(p, CAPTIONS)[1] or p.name.lower() in METADATA)
    return [p for p in captions if p not in read]


def mask_beside(picture: Path) -> Path | None:
    """The file of a picture's mask, if there is one."""
    return _beside(picture, MASKS)


def read_mask(file: Path, picture: Path, size: tuple[int, int]) -> Image.Image:
    """A mask in levels of grey, white where the thing is.

    Args:
        size: width and height that it must have, those of the picture.

    Raises:
        ImageError: it has others, or nothing in it is white.
    """
    mask = decode_mask(read(file), file)
    if mask.size != size:
        raise ImageError(
            f"the mask {shown(file)} must be as large as {shown(picture.name)}, {size[0]} x "
            f"{size[1]} pixels (got {mask.size[0]} x {mask.size[1]}).",
            "Make it again from the picture, or learn without masks (`masks`).",
        )
    if not mask.getextrema()[1]:
        raise ImageError(
            f"the mask {shown(file)} is black, but must be white where the thing is.",
            "Paint the thing white, remove the file, or learn without masks (`masks`).",
        )
    return mask


def read_scaled_mask(file: Path, size: tuple[int, int]) -> Image.Image:
    """A mask in levels of grey, of any size, as one of a picture's.

    Args:
        size: width and height of the picture.

    Returns:
        The mask, ``blackened``.

    Raises:
        ImageError: the mask cannot be read, has other proportions, or nothing in it is white, by
            ``LEAST_WHITE`` and at that size.
    """
    mask = decode_mask(read(file), file)
    # A pixel too many or too few of either is what rounding makes.
    apart = abs(mask.width * size[1] - mask.height * size[0])
    if apart > max(*mask.size, *size, 0.02 * mask.width * size[1]):
        raise ImageError(
            f"the mask {shown(file)} must have the proportions of the picture, {size[0]} x "
            f"{size[1]} pixels (got {mask.width} x {mask.height}).",
            "Make it again from the picture.",
        )
    scaled = mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)
    if (brightest := scaled.getextrema()[1]) < LEAST_WHITE:
        seen = f"no brighter than {brightest} of 255" if brightest else "black"
        where = "" if mask.size == size else f" in the picture's {size[0]} x {size[1]} pixels"
        raise ImageError(
            f"the mask {shown(file)} is {seen}{where}, but must be white where the picture may "
            "change.",
            "Paint that white, or leave out `mask`.",
        )
    return blackened(scaled)


def blackened(mask: Image.Image) -> Image.Image:
    """A mask whose black is exactly 0, so that every pixel there stays as it is."""
    return mask.point(lambda level: 0 if level <= MOST_BLACK else level)


def read_caption(picture: Path) -> str:
    """The caption beside a picture: the first line of its file that is not empty; "" if there is
    none.

    Raises:
        ImageError: the file cannot be read as text.
    """
    file = _beside(picture, CAPTIONS)
    if file is None:
        return ""
    try:
        text = read(file).decode("utf-8-sig")
        if "\0" in text:  # UTF-16 without a mark
            raise ValueError
    except ValueError:
        raise ImageError(
            f"the caption {shown(file)} is no text in UTF-8.",
            "Save it again as UTF-8, or learn without captions (`captions`).",
        ) from None
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _beside(picture: Path, ends: tuple[str, ...]) -> Path | None:
    try:
        files = [p for p in sorted(picture.parent.iterdir()) if p.name.startswith(picture.stem)]
    except OSError:  # a folder that may not be listed
        files = [picture.with_name(f"{picture.stem}{end}") for end in ends]
    return _first((picture.stem,), [p for p in files if is_file(p)], ends).get(picture.stem)


def _first(stems: Collection[str], files: Sequence[Path], ends: tuple[str, ...]) -> dict[str, Path]:
    """By stem, the file whose name goes on with the earliest of the endings."""
    found: dict[str, Path] = {}
    for end in ends:
        for file in files:
            stem, its_end = _parted(file, ends)
            if its_end == end and stem in stems:
                found.setdefault(stem, file)
    return found


def _parted(file: Path, ends: tuple[str, ...]) -> tuple[str, str]:
    """A name without its ending, and the ending in small letters; "" if it is none of these."""
    end = next((end for end in ends if file.name.lower().endswith(end)), "")
    return (file.name[: -len(end)], end) if end else (file.name, "")


def together(masks: list[Masks | None], captions: list[str]) -> Annotations:
    """Of images, whose masks are 1 x 1 x S x S, or None."""
    given = [m for m in masks if m is not None]
    whole = (
        torch.cat([torch.ones_like(given[0]) if m is None else m for m in masks]) if given else None
    )
    return Annotations(whole, tuple(captions) if any(captions) else ())
