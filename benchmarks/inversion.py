"""Inversion: RMSE against calls, ours beside what is published: the ``flowopt.*`` figures.

    python -m benchmarks.inversion [--pictures 16] [--seeds 4] [--only usual | few | empty]

Every method inverts fresh sticker pictures of trained and held-out objects on ``stickers-flow`` and
regenerates them with its own sampler; the error is the root mean square in latents, whose spread
is 1. Calls are those of the denoiser for both ways. At a budget each method has the setting that is
its best on other pictures, which are measured for nothing else. Beside the usual contest, all have
few steps (4 and 8) to go by, and no prompt. Results are kept in benchmarks/inversion.jsonl as they
come, and packed at the end; what is there is not measured again. It takes half an hour on a core of
its own.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from math import inf
from pathlib import Path

import numpy as np
import torch

from benchmarks import figures
from benchmarks.inverters import (
    DEFAULT,
    OFFICIAL,
    Setting,
    default_rule,
    of_few_steps,
    settings,
)
from evoken.arrays import Latents
from evoken.flowopt.compare import measures
from evoken.flowopt.inversion import starting_point, uniinv
from evoken.flowopt.optimize import flow_opt
from evoken.flowopt.sampler import ModelSampler, rms
from evoken.flowopt.settings import STARTS
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from stickers import world
from stickers.autoencoder import to_images

RESULTS = Path(__file__).with_suffix(".jsonl")
BUDGETS = (60, 120, 321)
FEW, FEW_BUDGETS = (4, 8), (60, 120)  # steps, as distilled models take
EMPTY = ", no prompt"  # after a method's name
FRESH = 9100  # world seeds that no training used
TUNING = 98  # of them, the one whose pictures decide on settings
SEEN = ("ours", "FireFlow", "UniInv", OFFICIAL)  # methods whose pictures are compared as well


Points = list[tuple[float, float]]  # calls per picture and mean error, of each result


class Bench:
    """Pictures, their prompts, and a model to invert them on."""

    def __init__(
        self, model: LatentModel, count: int, seed: int, prompt: str | None = None
    ) -> None:
        """
        Args:
            prompt: of all pictures; None for each one's own.
        """
        samples = [world.sample(FRESH + seed, i, world.objects(i % 2 == 1)) for i in range(count)]
        self.images = to_images(np.stack([s.pixels for s in samples]), torch.device("cpu"))
        self.model, self.latents = model, model.encode(self.images)
        self.captions = [s.caption if prompt is None else prompt for s in samples]

    def measure(self, setting: Setting) -> Points:
        """Calls per picture and the mean error, of every result."""
        f = ModelSampler(self.model, setting.steps)
        return [
            (f.calls / len(out), float(rms(out - self.latents).mean().nan_to_num(torch.inf)))
            for out in setting.run(f, self.latents, f.condition(self.captions))
        ]

    def seen(self, latents: Latents) -> float:
        """Mean error of the pictures of some latents, as root mean square of grey levels."""
        return float(measures(self.images, self.model.decode(latents))[0].mean())

    def grey_levels(self, setting: Setting, at: int) -> Points:
        """Calls per picture and error in grey levels, of a setting's result."""
        f = ModelSampler(self.model, setting.steps)
        results = setting.run(f, self.latents, f.condition(self.captions))
        result = next(islice(results, at, None))
        return [(f.calls / len(result), self.seen(result))]

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


class Measured:
    """What was measured: read from the file of results, or measured now and kept there."""

    def __init__(self, model: LatentModel, pictures: int, prompt: str | None = None) -> None:
        self._model, self._pictures, self._prompt = model, pictures, prompt
        self._benches: dict[int, Bench] = {}

    def setting(self, method: str, setting: Setting, seed: int) -> Points:
        """The points of a setting on the pictures of a seed."""
        return self._known(method, setting.name, seed, lambda bench: bench.measure(setting))

    def grey_levels(self, method: str, setting: Setting, at: int, seed: int) -> float:
        """The error of a setting's result in grey levels."""
        name = f"{setting.name}, result {at}"
        measure = partial(Bench.grey_levels, setting=setting, at=at)
        return self._known(f"{method}, grey levels", name, seed, measure)[0][1]

    def autoencoder(self, seed: int) -> float:
        """The error in grey levels of pictures that are only encoded and decoded."""
        points = self._known(
            "autoencoder", "", seed, lambda bench: [(0, bench.seen(bench.latents))]
        )
        return points[0][1]

    def default(self, how: str, iterations: int, seed: int) -> Points:
        """The default's iterates from a start."""
        name = f"{iterations} updates"
        return self._known(f"start {how}", name, seed, lambda b: b.iterates(iterations, how))

    def _known(
        self, method: str, setting: str, seed: int, measure: Callable[[Bench], Points]
    ) -> Points:
        key = {"method": method, "setting": setting, "pictures": self._pictures, "seed": seed}
        for row in figures.results(RESULTS):
            if row.items() >= key.items():
                points: Points = row["points"]
                return points
        if seed not in self._benches:
            self._benches[seed] = Bench(self._model, self._pictures, seed, self._prompt)
        points = measure(self._benches[seed])
        row = key | {"points": points}
        print(json.dumps(row), flush=True)
        figures.append(RESULTS, [row])
        return points


def tuned(
    method: str, options: Sequence[Setting], budget: int, seeds: int, known: Measured
) -> tuple[Setting, int, list[float]]:
    """A method's best setting on the pictures for that, which of its results, and its error on the
    pictures of each seed. Of the settings that take more calls than the budget on any of them, none
    is chosen.
    """
    if len(options) == len(BUDGETS):  # one fills each, and there is nothing to choose
        setting = options[BUDGETS.index(budget)]
        return setting, 0, [known.setting(method, setting, i)[0][1] for i in range(seeds)]
    places = [
        (error, i, setting)
        for setting in options
        for i, (calls, error) in enumerate(known.setting(method, setting, TUNING))
        if calls <= budget + 1
    ]
    for _, i, setting in sorted(places, key=lambda place: place[0]):
        found = [known.setting(method, setting, seed)[i] for seed in range(seeds)]
        if all(calls <= budget + 1 for calls, _ in found):
            return setting, i, [error for _, error in found]
    raise ValueError(f"{method} has no setting for {budget} calls")


def within(points: Points, budget: int) -> float:
    """The least error for the calls of a budget."""
    return min(error for calls, error in points if calls <= budget + 1)


def errors_at(
    methods: Mapping[str, Sequence[Setting]], suffix: str, budget: int, seeds: int, known: Measured
) -> dict[str, list[float]]:
    """The errors of every method that the budget is enough for, with its best setting.

    Args:
        suffix: after a method's name, in the results.
    """
    found = {}
    for name, options in methods.items():
        try:
            setting, _, found[name] = tuned(f"{name}{suffix}", options, budget, seeds, known)
        except ValueError:
            continue
        print(f"{name}{suffix} at {budget} calls: {setting.name}")
    return found


def ratios_of(errors: Mapping[str, Sequence[float]]) -> list[float]:
    """Ours by the best other one's, seed by seed."""
    others = zip(*(values for name, values in errors.items() if name != "ours"), strict=True)
    return [ours / min(other) for ours, other in zip(errors["ours"], others, strict=True)]


def report_few(known: Measured, seeds: int) -> dict[str, object]:
    """The figures of few steps: medians over the seeds."""
    found: dict[str, object] = {}
    for steps in FEW:
        for budget in FEW_BUDGETS:
            errors = errors_at(of_few_steps(steps), f", {steps} steps", budget, seeds, known)
            for name, values in errors.items():
                figure = f"flowopt.rmse_few.{steps}.{key_of(name)}.{budget}"
                found[figure] = figures.spread(values, digits=9)
            ratio = figures.spread(ratios_of(errors))
            found[f"flowopt.inversion_{steps}_steps_ratio.{budget}"] = ratio
            if budget == FEW_BUDGETS[0]:
                found[f"flowopt.inversion_{steps}_steps_ratio"] = ratio
    return found


def report_empty(known: Measured, seeds: int) -> dict[str, object]:
    """The figures of the empty prompt: medians over the seeds."""
    found: dict[str, object] = {}
    for budget in BUDGETS:
        errors = errors_at(settings(), EMPTY, budget, seeds, known)
        for name, values in errors.items():
            figure = f"flowopt.rmse_no_prompt.{key_of(name)}.{budget}"
            found[figure] = figures.spread(values, digits=9)
        found[f"flowopt.rmse_no_prompt_ratio.{budget}"] = figures.spread(ratios_of(errors))
    return found


def key_of(name: str) -> str:
    """A method's name in the names of figures."""
    return name.replace(", ", "-").replace(" ", "-").lower()


def report(known: Measured, pictures: int, seeds: int) -> dict[str, object]:
    """The figures: medians over the seeds."""
    found: dict[str, object] = {
        "flowopt.inversion_pictures": pictures,
        "flowopt.inversion_seeds": seeds,
    }
    methods, goals = settings(), list[float]()
    for budget in BUDGETS:
        errors = dict[str, list[float]]()
        for name, options in methods.items():
            setting, at, errors[name] = tuned(name, options, budget, seeds, known)
            print(f"{name} at {budget} calls: {setting.name}")
            if name in SEEN and budget == BUDGETS[0]:
                levels = [known.grey_levels(name, setting, at, i) for i in range(seeds)]
                found[f"flowopt.grey_levels.{key_of(name)}"] = figures.spread(levels)
            if name == OFFICIAL:
                found["flowopt.official_eta"] = float(setting.name.removeprefix("eta "))
                goals = errors[name]
        best = [min(errors[n][i] for n in methods if n != "ours") for i in range(seeds)]
        ratios = [ours / other for ours, other in zip(errors["ours"], best, strict=True)]
        for how in STARTS:
            points = [known.default(how, 31, seed) for seed in range(seeds)]
            errors[f"start {how}"] = [within(each, budget) for each in points]
        for name, values in errors.items():
            found[f"flowopt.rmse.{key_of(name)}.{budget}"] = figures.spread(values, digits=9)
        found[f"flowopt.rmse_ratio_at_{budget}_calls"] = figures.spread(ratios)
    levels = [known.autoencoder(seed) for seed in range(seeds)]
    found["flowopt.grey_levels.autoencoder"] = figures.spread(levels)
    reached = [
        min(
            (c for c, error in known.default(DEFAULT.start, 31, i)[:5] if error <= goals[i]),
            default=inf,
        )
        for i in range(seeds)
    ]
    found["flowopt.calls_to_official_rmse"] = round(statistics.median(reached), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", choices=("usual", "few", "empty"), help="a part of the figures")
    options = parser.parse_args()
    model, pictures, seeds = load_model(ModelSpec("stickers-flow")), options.pictures, options.seeds
    known = Measured(model, pictures)
    if options.only in (None, "usual"):
        figures.update(report(known, pictures, seeds) | {"flowopt.overhead": overhead(model)})
    if options.only in (None, "few"):
        figures.update(report_few(known, seeds))
    if options.only in (None, "empty"):
        figures.update(report_empty(Measured(model, pictures, prompt=""), seeds))
    figures.pack(RESULTS)


if __name__ == "__main__":
    main()
