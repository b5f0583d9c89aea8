"""Rivals that invert the picture and sample it again. They know the model by its velocities alone.

Levels are 1 at the noise and 0 at the data. y is the picture's latents, v(x, s) the velocity
dx/ds at the level s.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from benchmarks.editing.problem import Problem, Result, Run
from evoken.flowopt.inversion import implicit, uniinv
from evoken.flowopt.settings import flowopt_preset


def regeneration(steps: int, last: int) -> Run:
    """The exact inversion under the source's prompt, and sampling under the target's with guidance:
    what an editor has to be better than. The strength is the guidance.
    """

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        f = p.sampler(steps, last)
        z = implicit(f, p.latents, p.source(f))
        spent = f.calls
        for guidance in strengths:
            f.calls = spent
            x = f(z, p.target(f, guidance))
            yield p.result(guidance, f.calls, x)

    return run


def flowopt_official(eta: float, guidance: float) -> Run:
    """FlowOpt as its authors run it on SD 3. The strength is the number of updates; fewer change
    more.

    Args:
        eta: theirs is 0.01.
        guidance: theirs is 3.5.

    Source: Ronai et al. 2025, Eq. 6, and the official script's settings.
    """
    official = flowopt_preset("official-sd3-edit")

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        f = p.sampler(official.steps, official.last)
        z = uniinv(f, p.latents, p.source(f))
        target = p.target(f, guidance)
        for i in range(int(max(strengths)) + 1):
            x = f(z, target)
            if i in strengths:
                yield p.result(i, f.calls, x)
            z = z - eta * (x - p.latents)  # Eq. 6

    return run


def rf_inversion(steps: int, guidance: float, eta: float, gamma: float = 0.5) -> Run:
    """RF-Inversion: noised under the pull of one noise, and denoised under the pull of the picture.
    The strength is the share of the steps in which the picture pulls; more changes less.

    Args:
        eta: how hard the picture pulls; theirs is 0.9.
        gamma: how hard the noise does; theirs is 0.5.

    Source: Rout et al. 2024 (RF-Inversion), Eqs. 8 and 15; 28 steps, no prompt on the way up.
    Differs: classifier-free guidance, where FLUX reads its guidance as an input.
    """

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        f = p.sampler(steps)
        x, noise, empty = p.latents, p.noise("rf-inversion"), p.empty(f)
        for level, higher in pairwise(reversed(f.levels)):
            slope = f.slope(x, level, empty)
            pull = (noise - x) / (1 - level)
            x = x + (higher - level) * (slope + gamma * (pull - slope))  # Eq. 8
        top, spent, target = x, f.calls, p.target(f, guidance)
        for share in strengths:
            x, f.calls = top, spent
            for i, (level, lower) in enumerate(pairwise(f.levels)):
                slope = f.slope(x, level, target)
                if i < round(share * steps):
                    pull = (x - p.latents) / level
                    slope = slope + eta * (pull - slope)  # Eq. 15
                x = x + (lower - level) * slope
            yield p.result(share, f.calls, x)

    return run


def uni_edit(steps: int, share: float) -> Run:
    """Uni-Edit: under both prompts at once, with a step back along their difference, where it is
    large twice as far. The strength is that step's length, omega; theirs is 5.

    Args:
        share: of the steps, alpha; theirs are 0.6 and 0.8 of 15.

    Source: Jiao et al. 2025 (UniEdit-Flow), section 4; no guidance, and no prompt on the way up, as
    in the official code. The numbers of the equations are not known to us.
    """

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        f = p.sampler(steps, int(share * steps))
        top = uniinv(f, p.latents, p.empty(f))
        spent, source, target = f.calls, p.source(f), p.target(f)
        for omega in strengths:
            x, f.calls = top, spent
            for level, lower in pairwise(f.levels):
                of_source, of_target = (f.slope(x, level, c) for c in (source, target))
                gap = of_target - of_source
                # The channels' mean, not of magnitudes: so it is in the official code.
                signal = gap.mean(1, keepdim=True)
                low, high = (signal.amin((2, 3), True), signal.amax((2, 3), True))
                mask = (signal - low) / (high - low + 1e-7)
                fused = mask * of_target + (1 - mask) * of_source
                x = x + (lower - level) * (omega * (1 + mask) * gap + fused)
            yield p.result(omega, f.calls, x)

    return run
