"""The iteration: find z with f(z, c) = y, where c describes y (inversion) or the edit (editing)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evoken.arrays import Latents
from evoken.errors import SearchError
from evoken.flowopt.rules import StepRule
from evoken.flowopt.sampler import Sampler, per_row, rms

GROWTH = 1.5  # of the residual over the best so far, from which on a step counts as divergence


@dataclass(frozen=True)
class Step:
    """One evaluation of f for all pictures; N rows.

    Attributes:
        iteration: 0 is the start, before any update.
        calls: of the denoiser so far, all pictures and the start included.
        latents: z.
        result: f(z), a finished picture's latents.
        residual: N, root mean square of f(z) - y.
        best: N, the smallest residual so far.
        best_latents: the z that it was found at; never worse than the start.
        diverged: N, rows that go back to their best point and on in smaller steps.
    """

    iteration: int
    calls: int
    latents: Latents
    result: Latents
    residual: Tensor
    best: Tensor
    best_latents: Latents
    diverged: Tensor


@dataclass(frozen=True)
class Evaluated:
    """What f gave at one iteration: enough to go on from without calling it again."""

    latents: Latents
    result: Latents
    calls: int


def flow_opt(
    sampler: Sampler[Any],
    data: Latents,
    start: Latents | None,
    conditioning: Any,
    rule: StepRule,
    iterations: int,
    earlier: Sequence[Evaluated] = (),
) -> Iterator[Step]:
    """Yield the start and every iterate.

    Args:
        data: N x ..., the pictures' latents y.
        start: z at iteration 0 (see ``starting_point``); not needed if there are ``earlier`` ones.
        conditioning: of the sampler; the source prompt for inversion, the target for editing.
        iterations: updates; f is evaluated once more than that.
        earlier: the first iterations of the same run, which are yielded without evaluating f.

    Raises:
        SearchError: f of the start is not finite.

    Source: Ronai et al. 2025. Differs: step rules; and a row whose residual grows by half over its
    best, or is not finite, goes back to its best point with a shorter step. All in float32.
    """
    if start is None and not earlier:
        raise SearchError(
            "a run needs a starting point or earlier iterations (got neither).",
            "Give `start` or `earlier`.",
        )
    z = (earlier[0].latents if start is None else start).float()
    best_z, best_residual = z, torch.zeros_like(z)
    best = torch.full((len(z),), torch.inf, dtype=torch.float64, device=z.device)
    for iteration in range(iterations + 1):
        if iteration < len(earlier):
            result = earlier[iteration].result
            sampler.calls = earlier[iteration].calls
        else:
            result = sampler(z, conditioning)
        residual = result - data
        size = rms(residual).nan_to_num(torch.inf)
        if iteration == 0 and not size.isfinite().all():
            raise SearchError(
                "the pictures from the starting point are not finite: they hold NaN or infinity.",
                "Set `precision` to float32, or choose another `start`.",
            )
        diverged = size > GROWTH * best
        better = size < best
        best_z = torch.where(per_row(better, z), z, best_z)
        best_residual = torch.where(per_row(better, z), residual, best_residual)
        best = torch.minimum(size, best)
        yield Step(iteration, sampler.calls, z, result, size, best, best_z, diverged)
        rule.restart(diverged)
        back = per_row(diverged, z)
        z, residual = torch.where(back, best_z, z), torch.where(back, best_residual, residual)
        z = z + rule.change(z, residual)
