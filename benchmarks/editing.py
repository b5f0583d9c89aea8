"""Editing: agreement with the target against distance to the source, ours beside what is published.

    python -m benchmarks.editing [--edits 200] [--seeds 1]

Every editor changes the same fresh sticker pictures on ``stickers-flow``. Iterating editors give a
point per iterate; the others a point per strength. All have the same calls at most (BUDGET).
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch

from benchmarks.edits import Edit, Scorer, Scores
from evoken.arrays import Latents
from evoken.flowopt.inversion import implicit, starting_point
from evoken.flowopt.optimize import flow_opt
from evoken.flowopt.rules import RULES
from evoken.flowopt.sampler import ModelSampler, Prompts
from evoken.flowopt.settings import FlowSettings
from evoken.models.base import ModelSpec
from evoken.models.embedded import LatentModels, load_clip, load_judge, load_model
from evoken.seeds import torch_generator

BUDGET = 230  # calls per edit: those of the official script's 15 steps and 8 iterations


class Problem:
    """The edits of one kind, encoded: what every editor gets."""

    def __init__(self, model: LatentModels, scorer: Scorer) -> None:
        self.model, self.latents = model, model.encode(scorer.sources)
        self.sources, self.targets = zip(*(e.prompts for e in scorer.edits), strict=True)

    def sampler(self, steps: int, last: int = 0) -> ModelSampler:
        return ModelSampler(self.model, steps, last)

    def source(self, f: ModelSampler, guidance: float = 1.0) -> Prompts:
        return f.condition(self.sources, guidance)

    def target(self, f: ModelSampler, guidance: float) -> Prompts:
        return f.condition(self.targets, guidance)

    def noise(self, purpose: str) -> Latents:
        """Fresh noise, one per picture."""
        rows = [torch.randn(self.latents.shape[1:], generator=torch_generator(i, 0, purpose))
                for i in range(len(self.latents))]  # fmt: skip
        return torch.stack(rows)


Point = tuple[int, Latents]  # calls per edit so far, results
Editor = Callable[[Problem], Iterator[Point]]


def flowopt(settings: FlowSettings) -> Editor:
    """Ours, or the official script, by its settings."""

    def run(p: Problem) -> Iterator[Point]:
        f = p.sampler(settings.steps, settings.last)
        source = p.source(f, settings.source_guidance)
        start = starting_point(settings.start, f, p.latents, source, (), settings.tolerance)
        rule = RULES[settings.rule](settings.eta)
        target = p.target(f, settings.guidance)
        for step in flow_opt(f, p.latents, start, target, rule, settings.iterations):
            yield step.calls // len(p.latents), step.result

    return run


def regeneration(steps: int, guidance: float, shares: tuple[float, ...]) -> Editor:
    """The exact inversion with the source prompt, regenerated with the target's: less of the
    process, less of a change.
    """

    def run(p: Problem) -> Iterator[Point]:
        for share in shares:
            f = p.sampler(steps, round(share * steps))
            z = implicit(f, p.latents, p.source(f))
            result = f(z, p.target(f, guidance))
            yield f.calls // len(z), result

    return run


def rf_inversion(
    steps: int, guidance: float, stops: tuple[float, ...], gamma: float = 0.5, eta: float = 0.9
) -> Editor:
    """RF-Inversion (Rout et al. 2024): noised under the pull of one noise (gamma), and denoised
    under the pull of the picture (eta) until a share ``stop`` of the steps is done.
    """

    def run(p: Problem) -> Iterator[Point]:
        for stop in stops:
            f = p.sampler(steps)
            empty, target = f.condition([""] * len(p.latents)), p.target(f, guidance)
            x, noise = p.latents, p.noise("rf-inversion")
            for level, higher in pairwise(reversed(f.levels)):
                slope = f.slope(x, level, empty)
                pull = (noise - x) / (1 - level)
                x = x + (higher - level) * (slope + gamma * (pull - slope))
            for i, (level, lower) in enumerate(pairwise(f.levels)):
                slope = f.slope(x, level, target)
                if i < round(stop * steps):
                    slope = slope + eta * ((x - p.latents) / level - slope)
                x = x + (lower - level) * slope
            yield f.calls // len(x), x

    return run


def flowedit(
    steps: int, source_guidance: float, guidance: float, shares: tuple[float, ...]
) -> Editor:
    """FlowEdit (Kulikov et al. 2024): from picture to picture along the difference of the two
    prompts' slopes, without inversion. ``shares`` of the steps are used.
    """

    def run(p: Problem) -> Iterator[Point]:
        for share in shares:
            f = p.sampler(steps, round(share * steps))
            source, target = p.source(f, source_guidance), p.target(f, guidance)
            x = p.latents
            for i, (level, lower) in enumerate(pairwise(f.levels)):
                noised = (1 - level) * p.latents + level * p.noise(f"flowedit-{i}")
                change = f.slope(x + noised - p.latents, level, target)
                change = change - f.slope(noised, level, source)
                x = x + (lower - level) * change
            yield f.calls // len(x), x

    return run


def measure(editors: dict[str, Editor], edits: list[Edit]) -> dict[str, list[tuple[int, Scores]]]:
    """Every editor's points."""
    model, scorer = load_model(ModelSpec("stickers-flow")), Scorer(load_clip(), load_judge(), edits)
    problem = Problem(model, scorer)
    return {
        name: [(calls, scorer(model.decode(x))) for calls, x in editor(problem)]
        for name, editor in editors.items()
    }
