"""The pictures of a run as they come: read, in the frame that the model sees, with their masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from evoken.annotations import LEAST_WHITE, mask_beside, read_scaled_mask
from evoken.arrays import PathLike
from evoken.errors import ImageError, SettingError, shown
from evoken.flowopt.edit import Task
from evoken.images import ImageSet, find, load_images, to_mask
from evoken.pictures.frame import Frame, frame_of


@dataclass(frozen=True)
class Given:
    """Pictures with what was asked of them.

    Attributes:
        images: as the model sees them.
        masks: for each the file of its mask; None where none was given.
        frames: how the model sees each.
        task: what is to be done.
    """

    images: ImageSet
    masks: tuple[Path | None, ...]
    frames: tuple[Frame, ...]
    task: Task

    def rows(self, places: Sequence[int]) -> "Given":
        """Some of them, any of them several times."""
        masks, frames = (
            tuple(self.masks[i] for i in places),
            tuple(self.frames[i] for i in places),
        )
        return _given(self.images.rows(places), masks, frames)

    def asked(self, sources: Sequence[str], targets: Sequence[str]) -> "Given":
        """The same with prompts, one each; no targets for an inversion."""
        return _given(self.images, self.masks, self.frames, sources, targets)

    def masks_beside(self) -> list[str]:
        """The names of masks that were taken because they are beside their pictures."""
        rows = zip(self.masks, self.images.files, strict=True)
        return list(dict.fromkeys(m.name for m, file in rows if m and m == mask_beside(file)))

    def check_masks(self) -> None:
        """Raise ``ImageError`` for a mask of which nothing white is left in what the model sees."""
        for file, frame in dict.fromkeys(zip(self.masks, self.frames, strict=True)):
            if file is None:
                continue
            left = to_mask(frame.mask(read_scaled_mask(file, frame.size))[0])
            if left.getextrema()[1] < LEAST_WHITE:
                raise ImageError(
                    f"nothing white of the mask {shown(file)} is left in the {frame.side} x "
                    f"{frame.side} pixels that the model sees.",
                    "Paint more of it white, or set `frame` to mask, which looks closer.",
                )


def _given(
    images: ImageSet,
    masks: tuple[Path | None, ...],
    frames: tuple[Frame, ...],
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> Given:
    seen = torch.cat([frame.seen for frame in frames])
    return Given(
        images,
        masks,
        frames,
        Task(images.images, tuple(sources), tuple(targets), seen=None if seen.all() else seen),
    )


def check_frame(what: str, masked: bool) -> None:
    """Raise ``SettingError`` for a square around a mask that is not there.

    Args:
        what: one of ``FRAMES``.
        masked: whether every picture has a mask.
    """
    if what == "mask" and not masked:
        raise SettingError(
            "`frame` mask is a square around a mask, but there is none.",
            "Give one with `mask`, or choose another frame.",
        )


def load_framed(
    path: PathLike, mask: PathLike | None, size: int, what: str, beside: bool = False
) -> Given:
    """Read a picture, or all of a folder.

    Args:
        mask: a file, for each of them; None for none.
        beside: take the mask beside a picture (see ``annotations``) where no other is given.
        size: side of the squares that the model takes, in pixels.
        what: one of ``FRAMES``.

    Raises:
        ImageError: a picture or the mask cannot be used.
        SettingError: a square around a mask is wanted, and there is none.
    """
    pictures = find(Path(path)).images
    files = [Path(mask) if mask else mask_beside(p) if beside else None for p in pictures]
    check_frame(what, all(files))
    frames = list[Frame]()

    def view(picture: Image.Image, side: int) -> Image.Image:
        file = files[len(frames)]
        white = read_scaled_mask(file, picture.size) if file else None
        frames.append(frame_of(what, picture.size, side, white))
        return frames[-1].view(picture)

    images = load_images(path, size, masks=False, captions=False, fit=view)
    return _given(images, tuple(files), tuple(frames))


def together(parts: Sequence[Given]) -> Given:
    """All of them in one."""
    sets = [part.images for part in parts]
    folders = {s.folder for s in sets}
    images = ImageSet(
        torch.cat([s.images for s in sets]),
        tuple(name for s in sets for name in s.names),
        tuple(h for s in sets for h in s.hashes),
        folder=folders.pop() if len(folders) == 1 else None,
        sizes=tuple(size for s in sets for size in s.sizes),
        files=tuple(file for s in sets for file in s.files),
        ignored=tuple(dict.fromkeys(name for s in sets for name in s.ignored)),
        others=tuple(dict.fromkeys(name for s in sets for name in s.others)),
    )
    masks = tuple(mask for part in parts for mask in part.masks)
    return _given(images, masks, tuple(frame for part in parts for frame in part.frames))
