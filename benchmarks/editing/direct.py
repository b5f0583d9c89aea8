"""Rivals that walk from the picture to its edit along differences of velocities, without inversion.

Levels are 1 at the noise and 0 at the data. y is the picture's latents, v(x, s) the velocity
dx/ds at the level s.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.editing.problem import Problem, Result, Run
from evoken.arrays import Latents
from evoken.flowopt.sampler import ModelSampler, Prompts


class Step(NamedTuple):
    """One step of the walk, on the side of the source: it is the same for every strength.

    Attributes:
        level, lower: where it begins and ends.
        noised: the picture with fresh noise, (1 - s) y + s e.
        slope: the velocity there under the source's prompt.
    """

    level: float
    lower: float
    noised: Latents
    slope: Latents


def source_side(p: Problem, f: ModelSampler, guidance: float, purpose: str) -> list[Step]:
    """All steps of a walk."""
    steps, source = [], p.source(f, guidance)
    for i, (level, lower) in enumerate(pairwise(f.levels)):
        noised = torch.lerp(p.latents, p.noise(f"{purpose} {i}"), level)
        steps.append(Step(level, lower, noised, f.slope(noised, level, source)))
    return steps


def walk(
    p: Problem,
    f: ModelSampler,
    steps: Sequence[Step],
    target: Prompts,
    weights: Tensor | float = 1.0,
) -> tuple[Latents, list[Latents]]:
    """The walk's end, and the gap of the velocities in every step.

    Source: Kulikov et al. 2024 (FlowEdit), Algorithm 1, with one noise a step.
    """
    x, gaps = p.latents, []
    for step in steps:
        gap = f.slope(x + step.noised - p.latents, step.level, target) - step.slope
        x = x + (step.lower - step.level) * weights * gap
        gaps.append(gap)
    return x, gaps


def flowedit(steps: int, last: int, source_guidance: float) -> Run:
    """FlowEdit. The strength is the guidance of the target's prompt; theirs is 5.5 with a source
    guidance of 1.5 in the last 24 of 28 steps (FLUX), or 13.5 with 3.5 in 33 of 50 (SD 3).

    Source: Kulikov et al. 2024 (FlowEdit), Algorithm 1.
    """

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        f = p.sampler(steps, last)
        side = source_side(p, f, source_guidance, "flowedit")
        spent = f.calls
        for guidance in strengths:
            f.calls = spent
            x, _ = walk(p, f, side, p.target(f, guidance))
            yield p.result(guidance, f.calls, x)

    return run


class Prior(NamedTuple):
    """How DecFlowEdit looks for the edit.

    Attributes:
        steps, last: of its schedule; theirs is the edit's, or a quarter of it.
        window: side of the mean filter, in latents.
        threshold, softness: of the sigmoid; theirs are 0.55 and 0.08.
    """

    steps: int
    last: int
    window: int
    threshold: float
    softness: float = 0.08


def decflowedit(steps: int, last: int, source_guidance: float, prior: Prior) -> Run:
    """DecFlowEdit: FlowEdit where its own gaps without guidance are large. The strength is the
    guidance of the target's prompt.

    Source: Zhan et al. 2026 (DecFlowEdit), Eqs. 2 to 6. Differs: their filter of 5 x 5 latents is
    for pictures of 64 x 64 latents and more; the sticker models have 8 x 8, so narrower ones are
    tried, too.
    """

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        mask, paid = locate(p, prior)
        f = p.sampler(steps, last)
        side = source_side(p, f, source_guidance, "flowedit")
        spent = f.calls
        for guidance in strengths:
            f.calls = spent
            x, _ = walk(p, f, side, p.target(f, guidance), mask)  # Eqs. 5 and 6
            yield p.result(guidance, paid + f.calls, x, mask)

    return run


def locate(p: Problem, prior: Prior) -> tuple[Tensor, int]:
    """Where the edit is, N x 1 x h x w, and the calls of all pictures."""
    f = p.sampler(prior.steps, prior.last)
    _, gaps = walk(p, f, source_side(p, f, 1.0, "prior"), p.target(f))
    skipped = prior.steps - prior.last
    middle = [
        gap for k, gap in enumerate(gaps, skipped) if 0.25 * prior.steps <= k <= 0.75 * prior.steps
    ]
    energy = torch.stack(middle).sum(0).norm(dim=1, keepdim=True)  # Eq. 2
    return soft_mask(energy, prior), f.calls


def soft_mask(energy: Tensor, prior: Prior) -> Tensor:
    """N x 1 x h x w, both."""
    side = prior.window // 2
    padded = F.pad(energy, (side,) * 4, mode="replicate")
    smooth = F.avg_pool2d(padded, prior.window, stride=1)
    low, high = (smooth.flatten(1).quantile(q, dim=1).view(-1, 1, 1, 1) for q in (0.1, 0.9))
    scaled = ((smooth - low) / (high - low).clamp(min=1e-8)).clamp(0, 1)  # Eq. 3
    return torch.sigmoid((scaled - prior.threshold) / prior.softness)  # Eq. 4


def flowalign(steps: int, zeta: float) -> Run:
    """FlowAlign: guidance away from the source's prompt, and a pull towards the source's own
    estimate of the picture. The strength is the guidance; theirs is 7.5.

    Args:
        steps: theirs are 33, all of them used.
        zeta: the pull in every step; theirs is 0.01.

    Source: Kim et al. 2025 (FlowAlign), Proposition 1, in the form of the official code: fresh
    noise in every step, and a constant pull. The numbers of the equations are not known to us.
    """

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        f = p.sampler(steps)
        side = source_side(p, f, 1.0, "flowalign")
        spent, source, target = f.calls, p.source(f), p.target(f)
        for guidance in strengths:
            x, f.calls = p.latents, spent
            for level, lower, noised, slope in side:
                edited = x + noised - p.latents
                without, with_target = (f.slope(edited, level, c) for c in (source, target))
                own = without + guidance * (with_target - without)
                pull = (noised - level * slope) - (edited - level * own)
                x = x + (lower - level) * (own - slope) + zeta * pull
            yield p.result(guidance, f.calls, x)

    return run
