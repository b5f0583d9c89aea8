"""Pictures of any shape before a model that sees squares: what it sees of them, and back."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from evoken.annotations import blackened
from evoken.arrays import Images, Masks
from evoken.decoding import Decoded
from evoken.images import mask_levels, to_tensor

MARGIN = 0.25  # of a mask's longer side, seen around it on every side
FEATHER = 1 / 64  # of the longer side of what is seen: how far a change fades where none may be
FULL = 16 / 127.5  # a change from which on little of the old detail stays, in [-1, 1]

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Frame:
    """A part of a picture in a square; the rest of the square is the part's edges, drawn out.

    Attributes:
        size: width and height of the picture.
        box: the part, in pixels of the picture.
        place: where it is in the square.
        side: of the square.
    """

    size: tuple[int, int]
    box: Box
    place: Box
    side: int

    @classmethod
    def of(cls, size: tuple[int, int], box: Box, side: int) -> "Frame":
        """The whole of a part, as large as the square holds it, in its middle."""
        width, height = box[2] - box[0], box[3] - box[1]
        scale = side / max(width, height)
        w, h = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (side - w) // 2, (side - h) // 2
        return cls(size, box, (left, top, left + w, top + h), side)

    @property
    def seen(self) -> Masks:
        """1 x 1 x side x side, 1 where there is a picture in the square."""
        left, top, right, bottom = self.place
        found = torch.zeros(1, 1, self.side, self.side)
        found[..., top:bottom, left:right] = 1
        return found

    @property
    def share(self) -> np.ndarray:
        """Height x width of the picture, 1 in the part."""
        left, top, right, bottom = self.box
        found = np.zeros(self.size[::-1], dtype=np.float32)
        found[top:bottom, left:right] = 1
        return found

    @property
    def longer(self) -> int:
        """The longer side of the part."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def view(self, picture: Image.Image) -> Image.Image:
        """The square."""
        part = self._part(picture, Image.Resampling.LANCZOS)
        return Image.fromarray(np.pad(part, (*self._rest(), (0, 0)), mode="edge"))

    def mask(self, mask: Image.Image) -> Masks:
        """1 x 1 x side x side of a mask of the picture's size; 0 where there is no picture."""
        part = self._part(mask, Image.Resampling.BOX)
        return mask_levels(Image.fromarray(np.pad(part, self._rest())))

    def _part(self, picture: Image.Image, resampling: Image.Resampling) -> np.ndarray:
        left, top, right, bottom = self.place
        return np.asarray(picture.resize((right - left, bottom - top), resampling, self.box))

    def _rest(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """How far the square goes beyond the part: above and below, left and right."""
        left, top, right, bottom = self.place
        return (top, self.side - bottom), (left, self.side - right)

    def back(self, square: Tensor) -> Tensor:
        """N x C x side x side to N x C x height x width of the part, at its own resolution."""
        left, top, right, bottom = self.place
        seen = square[..., top:bottom, left:right]
        shape = (self.box[3] - self.box[1], self.box[2] - self.box[0])
        if seen.shape[-2:] == shape:
            return seen
        return F.interpolate(seen, shape, mode="bicubic", antialias=True)

    def mask_back(self, mask: Masks) -> Image.Image:
        """A mask of the square, 1 x 1 x side x side, as one of the picture: 0 beside the part."""
        levels = (self.back(mask)[0, 0].clamp(0, 1) * 255).round()
        found = Image.new("L", self.size)
        found.paste(Image.fromarray(levels.to(torch.uint8).numpy()), self.box[:2])
        return blackened(found)


def frame_of(what: str, size: tuple[int, int], side: int, mask: Image.Image | None = None) -> Frame:
    """What a model sees of a picture.

    Args:
        what: "whole", "middle" for the middle square, or "mask" for a square around a mask, as far
            as the picture reaches.
        size: width and height of the picture.
        side: of the square that the model takes.
        mask: of the picture's size.
    """
    width, height = size
    if what == "mask" and mask is not None:
        return Frame.of(size, _around(mask), side)
    if what == "middle":
        least = min(size)
        left, top = (width - least) // 2, (height - least) // 2
        return Frame.of(size, (left, top, left + least, top + least), side)
    return Frame.of(size, (0, 0, width, height), side)


def _around(mask: Image.Image) -> Box:
    """A square around what is not black, and a margin; cut where the picture ends."""
    left, top, right, bottom = blackened(mask).getbbox() or (0, 0, *mask.size)
    side = round(max(right - left, bottom - top) * (1 + 2 * MARGIN))
    spans = []
    for low, high, most in ((left, right, mask.width), (top, bottom, mask.height)):
        start = max(0, min((low + high - side) // 2, most - side))
        spans.append((start, min(most, start + side)))
    (x0, x1), (y0, y1) = spans
    return x0, y0, x1, y1


def feathered(mask: np.ndarray, part: int = 0) -> np.ndarray:
    """H x W in [0, 1]: the mask, fading out towards where it is 0; there and nowhere else the
    result is 0.

    Args:
        part: longer side of the part of it that the model sees, in pixels; 0 for all of it.
    """
    inside = mask > 0
    if inside.all():
        return mask
    width = max(1.0, FEATHER * (part or max(mask.shape)))
    return mask * np.clip(distance_transform_edt(inside) / width, 0, 1).astype(mask.dtype)


def newness(drawn: Images, rebuilt: Images) -> Masks:
    """N x 1 x H x W in [0, 1]: how little of a picture's own detail is left where it was changed.

    Args:
        drawn: the changed picture.
        rebuilt: the unchanged one after the same autoencoder, whose losses are no change.
    """
    change = (drawn - rebuilt).abs().amax(1, keepdim=True)
    smooth = F.avg_pool2d(F.pad(change, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return 1 - torch.exp(-((smooth / FULL) ** 2))


def mixed(original: Images, drawn: Images, rebuilt: Images, new: Masks, share: Masks) -> Images:
    """A change put into the original: where little changes the original keeps its own detail, where
    much does the new picture takes its place. All N x C x H x W.

    Args:
        drawn, rebuilt, new: see ``newness``.
        share: how much of that is done; at 0 the original stays as it is.
    """
    kept = drawn + (1 - new) * (original - rebuilt)
    return torch.lerp(original, kept, share.expand_as(original))


def put_back(
    original: Decoded,
    frame: Frame,
    drawn: Images,
    rebuilt: Images,
    share: np.ndarray,
    detail: bool = True,
) -> Image.Image:
    """A model's picture in the original, at the original's resolution and with its transparency.

    Args:
        drawn: 1 x 3 x side x side, what the model made of what it saw.
        rebuilt: what the autoencoder alone makes of that.
        share: of the picture's height and width, how much may change (see ``feathered``); where it
            is 0 every pixel stays, bit for bit.
        detail: keep the original's own where little was changed.
    """
    left, top, right, bottom = frame.box
    pixels = np.array(original.own)
    region = pixels[top:bottom, left:right]
    seen = to_tensor(original.picture.crop(frame.box))
    some = torch.from_numpy(share[top:bottom, left:right])[None, None].float()
    new = frame.back(newness(drawn, rebuilt)).clamp(0, 1)
    keeps = new if detail else torch.ones_like(new)
    made = mixed(seen, frame.back(drawn), frame.back(rebuilt), keeps, some)
    if region.shape[2] == 4:
        own, alpha = to_tensor(region[..., :3]), to_tensor(region[..., 3:])
        visible = some * new  # what is new is seen where nothing was
        made = torch.lerp(own, seen, visible.expand_as(own)) + (made - seen)
        made = torch.cat([made, torch.lerp(alpha, torch.ones_like(alpha), visible)], 1)
    levels = ((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
    pixels[top:bottom, left:right] = np.where(some[0, 0, :, :, None] > 0, levels, region)
    return Image.fromarray(pixels)
