"""What the results of an edit are put into: the pictures as they were given, and their masks, which
its folder keeps.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from evoken.annotations import read_scaled_mask
from evoken.arrays import Images, Masks
from evoken.decoding import decode_mask, decode_whole, read
from evoken.files import write_bytes
from evoken.flowopt.given import Given
from evoken.images import png
from evoken.pictures.frame import Frame, feathered, put_back
from evoken.run_folder import as_written

MASKS = "masks"


def original_path(folder: Path, number: int) -> Path:
    """Where a picture of an edit is as it was given."""
    return folder / "originals" / f"{number:02}.png"


def mask_path(folder: Path, number: int) -> Path:
    """Where the mask of a picture of an edit is or will be, of the picture's own size."""
    return folder / MASKS / f"{number:02}.png"


def keep(folder: Path, given: Given) -> None:
    """Write the originals and the masks that came with them into a new run folder.

    Raises:
        ImageError: one cannot be read any more.
    """
    rows = zip(given.images.files, given.masks, given.images.sizes, strict=True)
    for i, (file, mask, size) in enumerate(rows):
        found = decode_whole(read(file), file)
        write_bytes(original_path(folder, i), png(found.own, found.exif, found.profile))
        if mask is not None:
            write_bytes(mask_path(folder, i), png(read_scaled_mask(mask, size)))


class Originals:
    """The pictures of an edit and their masks."""

    def __init__(self, folder: Path, frames: Sequence[Frame], masked: bool) -> None:
        """
        Args:
            frames: how the model sees each.
            masked: whether only what is in the masks may change.
        """
        self._folder, self._frames, self._masked = folder, frames, masked
        self._share: tuple[int, np.ndarray] | None = None  # of the picture that was asked for last

    def keep_masks(self, masks: Masks, given: Collection[int]) -> None:
        """Write masks that were found, N x 1 x side x side, where none was given."""
        for i, (frame, mask) in enumerate(zip(self._frames, masks, strict=True)):
            if i not in given:
                write_bytes(mask_path(self._folder, i), png(frame.mask_back(mask[None])))

    def masks(self) -> Masks | None:
        """As the model sees them, N x 1 x side x side; None where everything may change.

        Raises:
            RunError: one is not there, or no picture.
        """
        if not self._masked:
            return None
        rows = [frame.mask(self._mask(i)) for i, frame in enumerate(self._frames)]
        return torch.cat(rows)

    def _mask(self, number: int) -> Image.Image:
        file = mask_path(self._folder, number)
        with as_written(file):
            return decode_mask(file.read_bytes(), file)

    def finished(self, number: int, drawn: Images, rebuilt: Images) -> bytes:
        """A PNG of what the model drew, 1 x 3 x side x side, put into the original.

        Args:
            rebuilt: the original after the autoencoder alone.
        """
        file = original_path(self._folder, number)
        with as_written(file):
            original = decode_whole(file.read_bytes(), file)
        frame, share = self._frames[number], self._shared(number)
        picture = put_back(original, frame, drawn, rebuilt, share, detail=self._masked)
        return png(picture, original.exif, original.profile)

    def _shared(self, number: int) -> np.ndarray:
        """How much of a change is put into a picture, of its height and width."""
        if self._share is None or self._share[0] != number:
            frame = self._frames[number]
            share = frame.share
            if self._masked:
                levels = np.asarray(self._mask(number), dtype=np.float32) / 255
                share = np.where(share > 0, levels, np.float32(0))
            self._share = number, feathered(share, frame.longer)
        return self._share[1]
