"""What a picture may have beside it: a mask of the thing, and a caption.

Source: the layouts of OneTrainer (cat-masklabel.png, cat.txt) and sd-scripts (cat.txt,
cat.caption).
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from evoken.arrays import Masks
from evoken.decoding import decode_mask, read
from evoken.errors import ImageError, shown

MASKS = (".mask.png", "-masklabel.png", "-mask.png")
CAPTIONS = (".txt", ".caption")


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


def is_mask(path: Path, stems: Collection[str]) -> bool:
    """Whether a file is a mask by its name.

    Args:
        stems: of the pictures in its folder. What ends in -mask.png may be a picture of a mask, and
            is one if nothing is called like the rest of its name.
    """
    for end in MASKS:
        if path.name.lower().endswith(end):
            return end != "-mask.png" or path.name[: -len(end)] in stems
    return False


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
    except UnicodeDecodeError as error:
        raise ImageError(
            f"the caption {shown(file)} is no text in UTF-8.",
            "Save it again as UTF-8, or learn without captions (`captions`).",
        ) from error
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _beside(picture: Path, ends: tuple[str, ...]) -> Path | None:
    files = (picture.with_name(f"{picture.stem}{end}") for end in ends)
    return next((file for file in files if file.is_file()), None)


def together(masks: list[Masks | None], captions: list[str]) -> Annotations:
    """Of images, whose masks are 1 x 1 x S x S, or None."""
    given = [m for m in masks if m is not None]
    whole = (
        torch.cat([torch.ones_like(given[0]) if m is None else m for m in masks]) if given else None
    )
    return Annotations(whole, tuple(captions) if any(captions) else ())
