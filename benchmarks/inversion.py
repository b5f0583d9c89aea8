"""Inversion: RMSE against calls, ours beside what is published: the ``flowopt.*`` figures.

    python -m benchmarks.inversion [--pictures 50] [--seeds 3] [--only usual | few | empty]

Every method inverts fresh sticker pictures of trained and held-out objects on ``stickers-flow`` and
regenerates them with its own sampler; the error is the root mean square in latents, whose spread
is 1. Calls are those of the denoiser for both ways. At a budget each method has its best setting.
Beside that, all of them have few steps (4 and 8) to go by, and no prompt.
Results are kept in benchmarks/inversion.jsonl as they come; what is there is not measured again.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import figures
from evoken.arrays import Latents
from evoken.flowopt.inversion import euler, implicit, starting_point, uniinv
from evoken.flowopt.optimize import flow_opt
from evoken.flowopt.rules import RULES, StepRule
from evoken.flowopt.sampler import ModelSampler, Prompts, per_row, rms
from evoken.flowopt.settings import STARTS, flowopt_preset
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from stickers import world
from stickers.autoencoder import to_images

RESULTS = Path(__file__).with_suffix(".jsonl")
BUDGETS = (60, 120, 321)
ETAS = (0.02, 0.05, 0.1, 0.2, 0.3)  # for the official update; its best is taken
FEW = (4, 8)  # steps, as distilled models take
FEW_BUDGETS = (60, 120)
FRESH = 9100  # world seeds that no training used

DEFAULT = flowopt_preset("invert")
Inverted = Callable[[ModelSampler, Latents, Prompts], Latents]  # regenerated latents


def default_rule() -> StepRule:
    """A fresh rule as ``evoken invert`` uses it."""
    return RULES[DEFAULT.rule](DEFAULT.eta)


def there_and_back(invert: Callable[..., Latents], **options: Any) -> Inverted:
    """An inversion whose sampler is Euler's method."""

    def run(f: ModelSampler, y: Latents, prompts: Prompts) -> Latents:
        return f(invert(f, y, prompts, **options), prompts)

    return run


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

    return run


def official(eta: float, iterations: int) -> Inverted:
    """UniInv, then z <- z - eta r as it is in the official script."""

    def run(f: ModelSampler, y: Latents, prompts: Prompts) -> Latents:
        z = uniinv(f, y, prompts)
        for _ in range(iterations):
            z = z - eta * (f(z, prompts) - y)
        return f(z, prompts)

    return run


def candidates(eta: float) -> dict[str, list[tuple[int, Inverted]]]:
    """Each method's settings worth trying: steps, and what to run."""
    free = (29, 59, 160)  # steps that fill the budgets with a call a step each way
    return {
        "Euler": [(n, there_and_back(euler)) for n in (30, 60, 160)],
        "UniInv": [(n, there_and_back(uniinv)) for n in free],
        "FireFlow": [(n, fireflow) for n in free],
        "RF-Solver": [(n, midpoint) for n in (15, 30, 80)],
        "fixed point": [
            (n, there_and_back(fixed_point, count=k))
            for n, k in ((10, 4), (14, 3), (19, 2), (10, 10), (20, 4), (29, 3), (29, 10), (63, 4))
        ],
        "accelerated fixed point": [
            (n, there_and_back(accelerated, count=k))
            for n, k in ((10, 4), (14, 3), (19, 2), (10, 10), (20, 4), (29, 3), (29, 10))
        ],
        "FlowOpt, official": [(10, official(eta, n)) for n in (3, 9, 30)],
        "ours": [
            (n, ours(t, k))
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


def few_steps(steps: int) -> dict[str, list[tuple[int, Inverted]]]:
    """Each method's settings worth trying where a process has no more steps than these."""
    counts = (2, 4, 6, 13, 28)
    return {
        "Euler": [(steps, there_and_back(euler))],
        "UniInv": [(steps, there_and_back(uniinv))],
        "FireFlow": [(steps, fireflow)],
        "RF-Solver": [(steps, midpoint)],
        "fixed point": [(steps, there_and_back(fixed_point, count=k)) for k in counts],
        "accelerated fixed point": [(steps, there_and_back(accelerated, count=k)) for k in counts],
        "FlowOpt, official": [(steps, official(eta, n)) for eta in ETAS for n in (5, 12, 27)],
        "ours": [(steps, ours(t, k)) for t in (1e-2, 1e-3, 1e-4, 1e-6) for k in (0, 4)],
    }


class Bench:
    """Pictures, their prompts, and a model to invert them on."""

    def __init__(
        self, model: LatentModel, count: int, seed: int, prompt: str | None = None
    ) -> None:
        """
        Args:
            prompt: for all pictures; None for each one's own.
        """
        samples = [world.sample(FRESH + seed, i, world.objects(i % 2 == 1)) for i in range(count)]
        images = to_images(np.stack([s.pixels for s in samples]), torch.device("cpu"))
        self.model, self.latents = model, model.encode(images)
        self.captions = [s.caption if prompt is None else prompt for s in samples]

    def measure(self, steps: int, method: Inverted) -> tuple[float, float]:
        """Calls per picture, and the mean error."""
        f = ModelSampler(self.model, steps)
        out = method(f, self.latents, f.condition(self.captions))
        return f.calls / len(out), float(rms(out - self.latents).mean())

    def iterates(self, iterations: int, how: str = DEFAULT.start) -> list[tuple[float, float]]:
        """The default, from any start: calls and error of every iterate."""
        f = ModelSampler(self.model, DEFAULT.steps)
        prompts, seeds = f.condition(self.captions), range(len(self.captions))
        start = starting_point(how, f, self.latents, prompts, seeds, DEFAULT.tolerance)
        steps = flow_opt(f, self.latents, start, prompts, default_rule(), iterations)
        return [(s.calls / len(start), float(s.best.mean())) for s in steps]


def overhead(model: LatentModel, repeats: int = 5) -> dict[str, float]:
    """Time of FlowOpt's updates over that of plain generation with as many calls."""
    bench, ratios = Bench(model, 16, 99), []
    f = ModelSampler(model, 10)
    prompts = f.condition(bench.captions)
    start = uniinv(f, bench.latents, prompts)
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(6):
            f(start, prompts)
        plain = time.perf_counter() - began
        began = time.perf_counter()
        for _ in flow_opt(f, bench.latents, start, prompts, default_rule(), 5):
            pass
        ratios.append((time.perf_counter() - began) / plain)
    return figures.spread(ratios)


Points = list[tuple[float, float]]  # calls per picture and mean error, of settings or iterates


def measured(method: str, pictures: int, seed: int, measure: Callable[[], Points]) -> Points:
    """The points of a method on the pictures of a seed: those kept, or measured and kept."""
    key = {"method": method, "pictures": pictures, "seed": seed}
    for row in figures.results(RESULTS):
        if row.items() >= key.items():
            return row["points"]
    points = measure()
    row = key | {"points": points}
    print(json.dumps(row), flush=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return points


def best_eta(model: LatentModel) -> float:
    """The official update's best step size, on pictures that are not measured."""

    def errors() -> Points:
        bench = Bench(model, 8, 98)
        return [(eta, bench.measure(10, official(eta, 30))[1]) for eta in ETAS]

    return min(measured("official eta", 8, 98, errors), key=lambda point: point[1])[0]


def every_method(model: LatentModel, eta: float, pictures: int, seed: int) -> dict[str, Points]:
    """Points of every method, of the default's iterates, and of the default from every start."""
    bench = Bench(model, pictures, seed)
    measures: dict[str, Callable[[], Points]] = {
        name: partial(_each, bench, settings) for name, settings in candidates(eta).items()
    }
    measures["default"] = partial(bench.iterates, 4)
    for how in STARTS:
        measures[f"start {how}"] = partial(bench.iterates, 31, how)
    return {name: measured(name, pictures, seed, f) for name, f in measures.items()}


def of_few_steps(model: LatentModel, pictures: int, seed: int) -> dict[str, Points]:
    """Points of every method, for each number of few steps."""
    bench = Bench(model, pictures, seed)
    found = {}
    for steps in FEW:
        for name, settings in few_steps(steps).items():
            method = f"{name}, {steps} steps"
            points = partial(_each, bench, settings)
            found[method] = measured(method, pictures, seed, points)
    return found


def of_no_prompt(model: LatentModel, eta: float, pictures: int, seed: int) -> dict[str, Points]:
    """Points of every method with the empty prompt."""
    bench = Bench(model, pictures, seed, prompt="")
    return {
        name: measured(f"{name}, no prompt", pictures, seed, partial(_each, bench, settings))
        for name, settings in candidates(eta).items()
    }


def _each(bench: Bench, settings: Sequence[tuple[int, Inverted]]) -> Points:
    return [bench.measure(*setting) for setting in settings]


def within(points: Points, budget: int) -> float:
    """The least error for the calls of a budget; infinite where nothing is so cheap."""
    return min((e for calls, e in points if calls <= budget + 1), default=math.inf)


def report(seeds: list[dict[str, Points]], eta: float, pictures: int) -> None:
    """Print and write the figures: medians over the seeds."""
    goals = [within(points["FlowOpt, official"], 321) for points in seeds]
    reached = [
        min((calls for calls, error in points["default"] if error <= goal), default=float("inf"))
        for points, goal in zip(seeds, goals, strict=True)
    ]
    found: dict[str, object] = {
        "flowopt.official_eta": eta,
        "flowopt.inversion_pictures": pictures,
        "flowopt.inversion_seeds": len(seeds),
        "flowopt.calls_to_official_rmse": round(statistics.median(reached), 1),
    }
    published = [name for name in candidates(eta) if name != "ours"]
    names = [*published, "ours", *(f"start {how}" for how in STARTS)]
    for budget in BUDGETS:
        for name in names:
            values = [within(points[name], budget) for points in seeds]
            found[f"flowopt.rmse.{_key(name)}.{budget}"] = figures.spread(values, digits=9)
        _, ratios = compared(seeds, [*published, "ours"], budget)
        found[f"flowopt.rmse_ratio_at_{budget}_calls"] = figures.spread(ratios)
    figures.update(found)


def compared(
    seeds: Sequence[dict[str, Points]], names: Sequence[str], budget: int
) -> tuple[dict[str, list[float]], list[float]]:
    """For each seed the errors of the methods at a budget, and that of ours, the last of the names,
    over the best other one's.
    """
    errors = {name: [within(points[name], budget) for points in seeds] for name in names}
    best = [min(errors[name][i] for name in names[:-1]) for i in range(len(seeds))]
    return errors, [ours / other for ours, other in zip(errors[names[-1]], best, strict=True)]


def report_few(seeds: Sequence[dict[str, Points]]) -> None:
    """Print and write the figures of few steps: medians over the seeds."""
    found: dict[str, object] = {}
    for steps in FEW:
        names = [f"{name}, {steps} steps" for name in few_steps(steps)]
        for budget in FEW_BUDGETS:
            errors, ratios = compared(seeds, names, budget)
            for name, values in zip(few_steps(steps), errors.values(), strict=True):
                if all(map(math.isfinite, values)):
                    found[f"flowopt.rmse_few.{steps}.{_key(name)}.{budget}"] = figures.spread(
                        values, digits=9
                    )
            found[f"flowopt.inversion_{steps}_steps_ratio.{budget}"] = figures.spread(ratios)
        found[f"flowopt.inversion_{steps}_steps_ratio"] = found[
            f"flowopt.inversion_{steps}_steps_ratio.{FEW_BUDGETS[0]}"
        ]
    figures.update(found)


def report_no_prompt(seeds: Sequence[dict[str, Points]]) -> None:
    """Print and write the figures of the empty prompt: medians over the seeds."""
    found: dict[str, object] = {}
    for budget in BUDGETS:
        errors, ratios = compared(seeds, list(seeds[0]), budget)
        for name, values in errors.items():
            found[f"flowopt.rmse_no_prompt.{_key(name)}.{budget}"] = figures.spread(
                values, digits=9
            )
        found[f"flowopt.rmse_no_prompt_ratio.{budget}"] = figures.spread(ratios)
    figures.update(found)


def _key(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-").lower()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("usual", "few", "empty"), help="a part of the table")
    options = parser.parse_args()
    model, pictures = load_model(ModelSpec("stickers-flow")), options.pictures
    seeds, only = range(options.seeds), options.only
    if only in (None, "few"):
        report_few([of_few_steps(model, pictures, seed) for seed in seeds])
    if only == "few":
        return
    eta = best_eta(model)
    if only in (None, "empty"):
        report_no_prompt([of_no_prompt(model, eta, pictures, seed) for seed in seeds])
    if only in (None, "usual"):
        report([every_method(model, eta, pictures, seed) for seed in seeds], eta, pictures)
        figures.update({"flowopt.overhead": overhead(model)})


if __name__ == "__main__":
    main()
