"""Ways to invert a picture and draw it again, with the settings of each that are worth trying."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from evoken.arrays import Latents
from evoken.flowopt.inversion import euler, implicit, uniinv
from evoken.flowopt.optimize import flow_opt
from evoken.flowopt.rules import RULES, StepRule
from evoken.flowopt.sampler import ModelSampler, Prompts, per_row
from evoken.flowopt.settings import flowopt_preset

ETAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)  # for the official update
OFFICIAL = "FlowOpt, official"
DEFAULT = flowopt_preset("invert")
Inverted = Callable[[ModelSampler, Latents, Prompts], Iterator[Latents]]  # regenerated latents
Plain = Callable[[ModelSampler, Latents, Prompts], Latents]


def default_rule() -> StepRule:
    """A fresh rule as ``evoken invert`` uses it."""
    return RULES[DEFAULT.rule](DEFAULT.eta)


def once(method: Plain) -> Inverted:
    """A method that has one result."""

    def run(f: ModelSampler, y: Latents, prompts: Prompts) -> Iterator[Latents]:
        yield method(f, y, prompts)

    return run


def there_and_back(invert: Callable[..., Latents], **options: Any) -> Inverted:
    """An inversion whose sampler is Euler's method."""
    return once(lambda f, y, prompts: f(invert(f, y, prompts, **options), prompts))


def midpoint(f: ModelSampler, y: Latents, prompts: Prompts) -> Latents:
    """RF-Solver (Wang et al. 2024), which is the midpoint rule: two calls a step."""
    x = y
    for levels in (tuple(reversed(f.levels)), f.levels):
        for a, b in pairwise(levels):
            half = x + (b - a) / 2 * f.slope(x, a, prompts)
            x = x + (b - a) * f.slope(half, (a + b) / 2, prompts)
    return x


def fireflow(f: ModelSampler, y: Latents, prompts: Prompts) -> Latents:
    """FireFlow (Deng et al. 2024): the midpoint rule with the slope of the last midpoint."""
    x = y
    for levels in (tuple(reversed(f.levels)), f.levels):
        slope = f.slope(x, levels[0], prompts)
        for a, b in pairwise(levels):
            slope = f.slope(x + (b - a) / 2 * slope, (a + b) / 2, prompts)
            x = x + (b - a) * slope
    return x


def fixed_point(f: ModelSampler, y: Latents, prompts: Prompts, count: int) -> Latents:
    """ReNoise's and AIDI's plain fixed point: ``count`` calls for every step."""
    x, slope = y, f.slope(y, 0.0, prompts)
    for a, b in pairwise(reversed(f.levels)):
        for _ in range(count):
            slope = f.slope(x + (b - a) * slope, b, prompts)
        x = x + (b - a) * slope
    return x


def accelerated(f: ModelSampler, y: Latents, prompts: Prompts, count: int) -> Latents:
    """AIDI's Anderson acceleration (Pan et al. 2023): as many calls for every step."""
    return implicit(f, y, prompts, tolerance=1e-12, most=count, carried=0)


def ours(tolerance: float, iterations: int = 0) -> Inverted:
    """The default's start at a tolerance, then the default's updates; the best iterate."""

    def run(f: ModelSampler, y: Latents, prompts: Prompts) -> Latents:
        start, best = implicit(f, y, prompts, tolerance), y
        for step in flow_opt(f, y, start, prompts, default_rule(), iterations):
            best = torch.where(per_row(step.residual <= step.best, y), step.result, best)
        return best

    return once(run)


def official(eta: float) -> Inverted:
    """UniInv, then z <- z - eta r as it is in the official script: every iterate, up to its 30."""

    def run(f: ModelSampler, y: Latents, prompts: Prompts) -> Iterator[Latents]:
        z = uniinv(f, y, prompts)
        for _ in range(31):
            result = f(z, prompts)
            yield result
            z = z - eta * (result - y)

    return run


@dataclass(frozen=True)
class Setting:
    """A method with everything chosen: a name, the steps of its sampler, and what to run."""

    name: str
    steps: int
    run: Inverted


def settings() -> dict[str, list[Setting]]:
    """Each method's settings worth trying."""

    def of_steps(run: Inverted, *counts: int) -> list[Setting]:
        return [Setting(f"{n} steps", n, run) for n in counts]

    def with_calls(method: Callable[..., Latents], *pairs: tuple[int, int]) -> list[Setting]:
        return [
            Setting(f"{n} steps of {k} calls", n, there_and_back(method, count=k)) for n, k in pairs
        ]

    free = (29, 59, 160)  # steps that fill the budgets with a call a step each way
    few = ((10, 4), (14, 3), (19, 2), (10, 10), (20, 4), (29, 3), (29, 10))
    return {
        "Euler": of_steps(there_and_back(euler), 30, 60, 160),
        "UniInv": of_steps(there_and_back(uniinv), *free),
        "FireFlow": of_steps(once(fireflow), *free),
        "RF-Solver": of_steps(once(midpoint), 15, 30, 80),
        "fixed point": with_calls(fixed_point, *few, (63, 4)),
        "accelerated fixed point": with_calls(accelerated, *few),
        OFFICIAL: [Setting(f"eta {eta}", 10, official(eta)) for eta in ETAS],
        "ours": [
            Setting(f"{n} steps, tolerance {t}, {k} updates", n, ours(t, k))
            for n, t, k in (
                (10, 2e-4, 0),
                (10, 1e-4, 0),
                (14, 1e-3, 0),
                (16, 2e-3, 0),
                (16, 3e-5, 0),
                (20, 1e-4, 0),
                (20, 1e-7, 8),
                (29, 3e-7, 5),
            )
        ],
    }


def of_few_steps(steps: int) -> dict[str, list[Setting]]:
    """Each method's settings worth trying where a process has no more steps than these."""
    counts = (2, 4, 6, 13, 28)

    def with_calls(method: Callable[..., Latents]) -> list[Setting]:
        return [Setting(f"{k} calls", steps, there_and_back(method, count=k)) for k in counts]

    return {
        "Euler": [Setting("", steps, there_and_back(euler))],
        "UniInv": [Setting("", steps, there_and_back(uniinv))],
        "FireFlow": [Setting("", steps, once(fireflow))],
        "RF-Solver": [Setting("", steps, once(midpoint))],
        "fixed point": with_calls(fixed_point),
        "accelerated fixed point": with_calls(accelerated),
        OFFICIAL: [Setting(f"eta {eta}", steps, official(eta)) for eta in ETAS],
        "ours": [
            Setting(f"tolerance {t}, {k} updates", steps, ours(t, k))
            for t in (1e-2, 1e-3, 1e-4, 1e-6)
            for k in (0, 4)
        ],
    }
