"""The largest step size under which the iteration contracts, estimated from pairs of points.

For two points the update brings z closer together exactly when eta < 2 <dz, df> / |df|^2; the bound
is the least of that over all pairs (docs/flowopt.md has the proof). Pairs along the way of the
iteration show it much better than random ones: the way bends towards the directions that diverge.
"""

from dataclasses import dataclass
from typing import Any

import torch

from evoken.arrays import Latents
from evoken.flowopt.rules import BarzilaiBorwein
from evoken.flowopt.sampler import Sampler, per_row, rms
from evoken.flowopt.secants import step_bound

SAFETY = 0.5  # share of the estimate to use: some pair that was not met has a smaller bound


@dataclass(frozen=True)
class StepSizeEstimate:
    """For every picture the least bound met, and the step size to use with all of them.

    Attributes:
        bounds: N; 0 where two points came no closer however small the step (df against dz).
        eta: for all pictures: SAFETY times the least of the bounds above 0, or 0 if there is none.
        calls: of the denoiser, all pictures.
    """

    bounds: tuple[float, ...]
    eta: float
    calls: int

    @property
    def etas(self) -> tuple[float, ...]:
        """For each picture by itself."""
        return tuple(SAFETY * bound for bound in self.bounds)


def estimate_step_size(
    sampler: Sampler[Any],
    data: Latents,
    start: Latents,
    conditioning: Any,
    eta: float = 0.05,
    iterations: int = 8,
) -> StepSizeEstimate:
    """Follow the iteration with the Barzilai-Borwein rule, which visits all curvatures, and take
    the least bound of all pairs of its points.

    Args:
        eta: of the first step.
        iterations: calls of f after the first; pairs are (iterations + 1) iterations / 2.
    """
    before = sampler.calls
    rule = BarzilaiBorwein(eta)
    z, points = start.float(), []
    for _ in range(iterations + 1):
        result = sampler(z, conditioning)
        points.append((z.double().flatten(1), result.double().flatten(1)))
        change = rule.change(z, result - data)
        limit = 0.1 * rms(z).to(z) / rms(change).clamp(min=1e-12).to(z)  # stay where pictures are
        z = z + change * per_row(limit.clamp(max=1), z)
    found = [
        step_bound(points[j][0] - points[i][0], points[j][1] - points[i][1])
        for j in range(len(points))
        for i in range(j)
    ]
    bounds = torch.stack(found).amin(0).clamp(min=0)
    positive = bounds[bounds > 0]
    eta = float(SAFETY * positive.min()) if len(positive) else 0.0
    return StepSizeEstimate(tuple(bounds.tolist()), eta, sampler.calls - before)
