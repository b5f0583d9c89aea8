"""Where an edit is: a soft mask found by the model itself, and a process that changes nothing else.

Both know a sampler by its slopes alone, so that they work on any.
"""

from itertools import pairwise
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evoken.arrays import Latents, Masks
from evoken.errors import SettingError
from evoken.flowopt.inversion import Inverted
from evoken.flowopt.sampler import Sampler

LEVELS = 3  # that the two prompts are compared at
BLUR = 5 / 128  # of the latents' side: width of the mean that smooths the gap
HIGH = 0.9  # quantile of the gap that counts as all of it
HALF, SOFT = 0.35, 0.08  # share of that at which the logistic function is 1/2, and its width
BLACK = 0.1  # of the logistic function: below it the mask is 0


def found_mask(
    sampler: Sampler[Any],
    way: Inverted,
    source: Any,
    target: Any,
    skipped: int = 0,
    seen: Masks | None = None,
) -> Tensor:
    """In [0, 1]: where two prompts ask for different pictures. 2 LEVELS calls a picture.

    Args:
        way: the pictures' own, up the process.
        source, target: conditionings of the sampler, both without guidance.
        skipped: steps of the schedule that are above the way.
        seen: N x 1 x h x w, how much of each latent is of the picture, and not of what it was drawn
            out with. The mask is 0 where nothing is.

    Returns:
        N x 1 x h x w for latents N x C x h x w; N x token x 1 for packed ones, N x token x C, of
        square pictures.

    Raises:
        SettingError: latents of another form.

    Source: DecFlowEdit (2026): the gap of the velocities, summed over the middle half of the
    schedule; norm over channels, mean of 5 x 5, squashed by a logistic function. Differs: on the
    picture's own way instead of FlowEdit's noised pictures, which needs no random numbers; at
    LEVELS levels; the gap is put in relation to its 90 % quantile, or a third of its largest where
    that is more, instead of being spread from its 10 to its 90 % quantile, so that an edit of
    everything has a mask of everything; and what is far below is exactly 0.
    """
    gap: Tensor | None = None
    for k in _middle(len(way.levels) - 1, skipped):
        x, level = way.path[k], way.levels[k]
        here = sampler.slope(x, level, target) - sampler.slope(x, level, source)
        gap = here if gap is None else gap + here
    assert gap is not None  # noqa: S101  # there is always a level
    return soft(gap, seen)


def _middle(steps: int, skipped: int) -> list[int]:
    """Places on a way of so many steps, evenly spaced in the middle half of the schedule."""
    whole = steps + skipped
    places = [whole / 4 + (i + 0.5) * whole / 2 / LEVELS for i in range(LEVELS)]
    return sorted({min(max(int(place) - skipped, 0), steps - 1) for place in places})


def soft(gap: Latents, seen: Masks | None = None) -> Tensor:
    """A gap between two slopes as a mask; see ``found_mask``."""
    if gap.ndim not in (3, 4):
        raise SettingError(
            f"latents must be N x C x h x w, or packed ones N x token x C, to find a mask (got "
            f"{gap.ndim} dimensions).",
            "Bring them into that form around the sampler, or give a mask.",
        )
    packed = gap.ndim == 3
    energy = gap.norm(dim=2 if packed else 1)
    if packed:
        side = isqrt(energy.shape[1])
        if side**2 != energy.shape[1]:
            raise SettingError(
                f"packed latents must be of a square picture to find a mask (got "
                f"{energy.shape[1]} tokens).",
                "Unpack them first, or give a mask.",
            )
        energy = energy.view(-1, side, side)
    plane = energy[:, None]
    seen = torch.ones_like(plane) if seen is None else seen.to(plane)
    known = (seen > 0).to(plane)
    if (width := 2 * round((BLUR * plane.shape[-1] - 1) / 2) + 1) > 1:
        edges = [width // 2] * 4
        wide = (F.pad(x, edges, mode="replicate") for x in (plane * known, known))
        plane = _weighed(*(F.avg_pool2d(x, width, stride=1) for x in wide))
    # Of a very long picture no latent is more than half of it.
    full = [s >= s.max() / 2 for s in seen]
    all_of_it = torch.stack(
        [p[f].quantile(HIGH).maximum(p[f].max() / 3) for p, f in zip(plane, full, strict=True)]
    ).clamp(min=1e-12)  # by its largest where less than a tenth is to change
    rising = torch.sigmoid((plane / all_of_it.view(-1, 1, 1, 1) - HALF) / SOFT)
    mask = known * ((rising - BLACK) / (1 - BLACK)).clamp(min=0)
    return mask.flatten(2).mT if packed else mask


def check_masks(masks: object, count: int) -> None:
    """Raise ``SettingError`` unless these are masks of so many pictures."""
    wanted = f"`masks` must be float numbers from 0 to 1, {count} x 1 x height x width"
    if not isinstance(masks, Tensor):
        raise SettingError(f"{wanted} (got {type(masks).__name__}).", "Give a tensor.")
    shape = " x ".join(map(str, masks.shape))
    if masks.ndim != 4 or masks.shape[:2] != (count, 1) or not masks.numel():
        raise SettingError(f"{wanted} (got {shape}).", "Give a mask for each picture.")
    if not masks.is_floating_point():
        raise SettingError(f"{wanted} (got {masks.dtype}).", "Convert them with masks.float().")
    if not ((masks >= 0) & (masks <= 1)).all():  # NaN is neither
        low, high = (float(x) for x in masks.aminmax())
        raise SettingError(f"{wanted} (got {low:g} to {high:g}).", "Divide levels by 255.")


def of_latents(mask: Masks, latents: Latents, seen: Masks | None = None) -> Masks:
    """A mask of pictures, N x 1 x H x W, as one of their latents.

    Args:
        seen: of the same shape, 1 where a picture is; a latent of which a part is the picture gets
            what the mask is in that part.
    """
    shape = latents.shape[-2:]
    if seen is None:
        return F.interpolate(mask, shape, mode="area")
    return _weighed(*(F.interpolate(x, shape, mode="area") for x in (mask * seen, seen)))


def of_pictures(mask: Masks, side: int, seen: Masks | None = None) -> Masks:
    """A mask of latents as one of pictures of that side, in 256 levels as a file holds them.

    Args:
        seen: N x 1 x side x side, 1 where a picture is: the mask goes on to its edge, and is 0
            beyond.
    """
    shape = (side, side)
    wide = F.interpolate(mask, shape, mode="bilinear")
    if seen is not None:
        known = (of_latents(seen, mask) > 0).to(mask)
        wide = seen * _weighed(wide, F.interpolate(known, shape, mode="bilinear"))
    return (wide * 255).round() / 255


def _weighed(total: Tensor, weight: Tensor) -> Tensor:
    """The mean of what has weight; 0 where nothing has any."""
    return total / weight.clamp(min=1e-9)


class Masked:
    """f where only a part may change: after every step, what is outside the mask is put where the
    picture itself is on its way. See ``evoken.flowopt.sampler.Sampler``.

    On a way with fresh noise at every level, only the difference between the edit and the picture
    goes on to the next.

    Source: Avrahami et al. 2022 (Blended Diffusion), whose background is noised anew; Kulikov et
    al. 2024 (FlowEdit), Algorithm 1, for fresh noise. Differs: a way of the picture's own, which
    ends at the picture itself; the difference is masked at every level.
    """

    def __init__(self, sampler: Sampler[Any], way: Inverted, mask: Tensor | None) -> None:
        """
        Args:
            sampler: any whose schedule has the way's levels.
            way: ``inverted`` or ``renewed``.
            mask: of the latents, in [0, 1], 0 where nothing may change; None for everywhere.
        """
        self._sampler, self._way, self._mask = sampler, way, mask
        self.levels, self.start_scale = way.levels, way.scale

    @property
    def calls(self) -> int:
        """See ``Sampler``."""
        return self._sampler.calls

    @calls.setter
    def calls(self, count: int) -> None:
        self._sampler.calls = count

    def slope(self, x: Latents, level: float, conditioning: Any) -> Latents:
        """See ``Sampler``."""
        return self._sampler.slope(x, level, conditioning)

    def rows(self, conditioning: Any, rows: Tensor) -> Any:
        """See ``Sampler``."""
        return self._sampler.rows(conditioning, rows)

    def __call__(self, latents: Latents, conditioning: Any) -> Latents:
        """Euler's method down the levels."""
        path, ends = self._way.path, self._way.ends
        x = self._within(latents / self.start_scale, path[0])
        for k, (level, lower) in enumerate(pairwise(self.levels)):
            x = x + (lower - level) * self._sampler.slope(x, level, conditioning)
            if ends is None:
                x = self._within(x, path[k + 1])
            else:
                x = path[k + 1] + self._within(x - ends[k], torch.zeros_like(x))
        return x

    def _within(self, x: Latents, outside: Latents) -> Latents:
        """The same inside the mask."""
        if self._mask is None:
            return x
        return torch.lerp(outside, x, self._mask.to(x).expand_as(x))
