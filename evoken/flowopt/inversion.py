"""Where the iteration starts: the picture followed up the process, one level after the other.

All take the data y and return latents at the sampler's start. They know the sampler by its slopes
alone, so that they work on any.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from evoken.arrays import Latents
from evoken.flowopt.sampler import Sampler, per_row, rms
from evoken.flowopt.secants import cancelled
from evoken.flowopt.settings import STARTS
from evoken.options import one_of
from evoken.process import Process
from evoken.seeds import torch_generator


@dataclass(frozen=True)
class Inverted:
    """Pictures followed up the process: where each of them was at every level.

    Attributes:
        levels: n + 1 levels of the ODE, from the start down to 0.
        path: (n + 1) x N x ..., the ODE's x at these levels; the last ones are the pictures.
        scale: latents over x at the first level.
        ends: n x N x ..., where a step of the pictures' own prompts leads from each point but the
            last; None where that is the next point.
    """

    levels: tuple[float, ...]
    path: Latents
    scale: float = 1.0
    ends: Latents | None = None

    @property
    def start(self) -> Latents:
        """N x ..., the latents that the process begins with."""
        return self.path[0] * self.scale

    def rows(self, rows: Tensor) -> "Inverted":
        """Of some pictures (indices)."""
        ends = None if self.ends is None else self.ends[:, rows]
        return replace(self, path=self.path[:, rows], ends=ends)

    def last(self, count: int, scale: float = 1.0) -> "Inverted":
        """The part below: its last ``count`` steps, 0 for all.

        Args:
            scale: latents over x where that begins.
        """
        keep = count or len(self.levels) - 1
        ends = None if self.ends is None else self.ends[-keep:]
        return Inverted(self.levels[-keep - 1 :], self.path[-keep - 1 :], scale, ends)


def inverted(
    how: str,
    sampler: Sampler[Any],
    data: Latents,
    conditioning: Any,
    seeds: Sequence[int] = (),
    tolerance: float = 1e-3,
) -> Inverted:
    """Follow pictures up the process.

    Args:
        how: one of STARTS. Noise is reached on a straight line.
        data: N x ..., the pictures' latents y.
        seeds: for "noise", one per picture.
        tolerance: for "implicit".

    Raises:
        SettingError: ``how`` is none of these.
    """
    one_of("start", how, STARTS)
    if how == "implicit":
        points = _implicit(sampler, data, conditioning, tolerance)
    elif how == "uniinv":
        points = _uniinv(sampler, data, conditioning)
    elif how == "euler":
        points = _euler(sampler, data, conditioning)
    else:
        noise = _noise(data, seeds, 0, "start") / sampler.start_scale
        shares = (level / sampler.levels[0] for level in reversed(sampler.levels))
        points = (torch.lerp(data, noise, share) for share in shares)
    path = torch.stack([*points]).flip(0)
    return Inverted(sampler.levels, path, sampler.start_scale)


def starting_point(
    how: str,
    sampler: Sampler[Any],
    data: Latents,
    conditioning: Any,
    seeds: Sequence[int] = (),
    tolerance: float = 1e-3,
) -> Latents:
    """The latents that FlowOpt begins at; for the arguments and errors, see ``inverted``."""
    return inverted(how, sampler, data, conditioning, seeds, tolerance).start


def _noise(data: Latents, seeds: Sequence[int], place: int, purpose: str) -> Latents:
    shape = data.shape[1:]
    rows = [torch.randn(shape, generator=torch_generator(s, place, purpose)) for s in seeds]
    return torch.stack(rows).to(data)


def renewed(
    way: Inverted,
    sampler: Sampler[Any],
    data: Latents,
    conditioning: Any,
    process: Process,
    share: float,
    seeds: Sequence[int],
) -> Inverted:
    """A way with fresh noise at every level, and where the pictures' own prompts lead from there. n
    calls.

    Args:
        conditioning: of those prompts.
        share: see ``with_fresh_noise``.
        seeds: one per picture.

    Source: Kulikov et al. 2024 (FlowEdit), Algorithm 1, one noise a step. Differs: a share of the
    way's own noise can be kept.
    """
    points, ends = list[Latents](), list[Latents]()
    steps = len(way.levels) - 1
    for k, (level, lower) in enumerate(pairwise(way.levels)):
        scale, t = process.scale(level), process.t_of(level)
        # Counted from the end: fewer last steps draw the same.
        x = with_fresh_noise(way.path[k] * scale, data, process, t, share, seeds, steps - k) / scale
        points.append(x)
        ends.append(x + (lower - level) * sampler.slope(x, level, conditioning))
    return replace(way, path=torch.stack([*points, way.path[-1]]), ends=torch.stack(ends))


def with_fresh_noise(
    latents: Latents,
    data: Latents,
    process: Process,
    t: float,
    share: float,
    seeds: Sequence[int],
    place: int = 0,
) -> Latents:
    """Latents with ``share`` of their noise, by variance, replaced by noise drawn from ``seeds``
    for a place on a way.

    Latents at noise level t are the picture and noise, mixed; what they have of the picture stays.
    """
    picture, scale = _mixture(data, process, t)
    kept, drawn = (latents - picture) / scale, _noise(data, seeds, place, "fresh")
    return picture + scale * ((1 - share) ** 0.5 * kept + share**0.5 * drawn)


def noise_in(latents: Latents, data: Latents, process: Process, t: float) -> Latents:
    """What is noise in latents at level t, which are a picture and noise, mixed."""
    picture, scale = _mixture(data, process, t)
    return (latents - picture) / scale


def _mixture(data: Latents, process: Process, t: float) -> tuple[Latents, Latents]:
    """What is left of a picture at level t, and what noise is multiplied with there."""
    levels, zero = torch.full((len(data),), t), torch.zeros_like(data)
    picture = process.add_noise(data, zero, levels)
    return picture, process.add_noise(zero, torch.ones_like(data), levels)


def euler(sampler: Sampler[Any], data: Latents, conditioning: Any) -> Latents:
    """Euler's method upwards: every step takes the slope where it begins. n calls."""
    return starting_point("euler", sampler, data, conditioning)


def _euler(sampler: Sampler[Any], data: Latents, conditioning: Any) -> Iterator[Latents]:
    yield (x := data)
    for level, higher in pairwise(reversed(sampler.levels)):
        x = x + (higher - level) * sampler.slope(x, level, conditioning)
        yield x


def uniinv(sampler: Sampler[Any], data: Latents, conditioning: Any) -> Latents:
    """Every step takes the slope of where it is going to end, as the sampler will; a step with the
    last slope says where that is. n + 1 calls.

    Source: Jiao et al. 2025 (UniEdit-Flow), Uni-Inv; FlowOpt's own start.
    """
    return starting_point("uniinv", sampler, data, conditioning)


def _uniinv(sampler: Sampler[Any], data: Latents, conditioning: Any) -> Iterator[Latents]:
    yield (x := data)
    slope = sampler.slope(x, sampler.levels[-1], conditioning)
    for level, higher in pairwise(reversed(sampler.levels)):
        ahead = x + (higher - level) * slope
        slope = sampler.slope(ahead, higher, conditioning)
        x = x + (higher - level) * slope
        yield x


def implicit(
    sampler: Sampler[Any],
    data: Latents,
    conditioning: Any,
    tolerance: float = 1e-3,
    most: int = 20,
    memory: int = 5,
    carried: int = 2,
) -> Latents:
    """Every step solved: the x at its end from which the sampler's step leads back to where it
    began. That is the sampler's exact inverse, if it has one.

    Args:
        tolerance: a step is solved when the x at its end would move by less (root mean square;
            x at the end of the process is the picture's latents); per picture, so that one never
            waits for another.
        most: calls per step.
        memory: pairs of changes of x and slope that the acceleration uses.
        carried: of them, those of the steps before: the slope's Jacobian changes slowly.

    Source: Pan et al. 2023 (AIDI), fixed points with Anderson acceleration. Differs: memory carried
    from step to step; calls where they are needed (low levels converge slowest); and a step begins
    with the last slope or with the line through the last two, whichever was nearer one step before.
    """
    *_, x = _implicit(sampler, data, conditioning, tolerance, most, memory, carried)
    return x * sampler.start_scale


def _implicit(
    sampler: Sampler[Any],
    data: Latents,
    conditioning: Any,
    tolerance: float,
    most: int = 20,
    memory: int = 5,
    carried: int = 2,
) -> Iterator[Latents]:
    yield (x := data)
    slope = before = sampler.slope(x, sampler.levels[-1], conditioning)
    known = _Memory(len(x), memory, x[0].numel(), x.device)
    linear = torch.zeros(len(x), dtype=torch.bool, device=x.device)  # rows that extrapolate
    last = 0.0
    for level, higher in pairwise(reversed(sampler.levels)):
        known.forget(carried)
        step = higher - level
        ahead = slope + (slope - before) * (step / last if last else 0.0)
        guess = torch.where(per_row(linear, x), ahead, slope)
        end = _solve_step(sampler, x, guess, (level, higher), conditioning, known, tolerance, most)
        found = (end - x) / step
        linear = rms(ahead - found) < rms(slope - found)
        before, slope, last = slope, found, step
        yield (x := end)


def _solve_step(
    sampler: Sampler[Any],
    x: Latents,
    slope: Latents,
    levels: tuple[float, float],
    conditioning: Any,
    known: "_Memory",
    tolerance: float,
    most: int,
) -> Latents:
    """Solve end = x + step * slope(end) for every row, from the slope of the step before."""
    step = levels[1] - levels[0]
    end = x + step * slope
    active = torch.arange(len(x), device=x.device)
    before: tuple[Latents, Latents] | None = None
    for _ in range(most):
        part = sampler.rows(conditioning, active)
        here = end[active]
        slopes = sampler.slope(here, levels[1], part)
        if before is not None:
            known.add(active, here - before[0], slopes - before[1])
        gap = (x[active] + step * slopes - here).double().flatten(1)
        dx, dv = known.x[active], known.slope[active]
        change = cancelled(gap, dx, step * dv - dx).view_as(here)
        end = end.index_copy(0, active, (here + change).to(end))
        going = rms(change) > tolerance
        active, before = active[going], (here[going], slopes[going])
        if not len(active):
            break
    return end


class _Memory:
    """The last pairs of changes of x and of the slope: N x memory x D, zero where there is none."""

    def __init__(self, count: int, memory: int, width: int, device: torch.device) -> None:
        self.x = torch.zeros(count, memory, width, dtype=torch.float64, device=device)
        self.slope = torch.zeros_like(self.x)

    def add(self, rows: Tensor, dx: Tensor, dslope: Tensor) -> None:
        """A new pair for some rows, in place of their oldest."""
        for kept, new in ((self.x, dx), (self.slope, dslope)):
            kept[rows] = torch.cat([kept[rows, 1:], new.double().flatten(1)[:, None]], 1)

    def forget(self, keep: int) -> None:
        """All but the last ``keep`` pairs."""
        for kept in (self.x, self.slope):
            kept[:, : kept.shape[1] - keep] = 0
