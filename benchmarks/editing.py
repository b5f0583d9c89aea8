"""Editing: agreement with the target against distance to the source, ours beside what is published.

    python -m benchmarks.editing [--edits 96] [--seeds 3]

Every editor changes the same fresh sticker pictures on ``stickers-flow``. Iterating editors give a
point per iterate, the others a point per strength, each within BUDGET calls. The points are kept in
benchmarks/editing.jsonl as they come; what is there is not measured again.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks import figures
from benchmarks.curves import curve_sheet
from benchmarks.edits import KINDS, Scorer, draw
from evoken.arrays import Latents
from evoken.files import write_text
from evoken.flowopt.edit import edit
from evoken.flowopt.inversion import implicit
from evoken.flowopt.sampler import ModelSampler, Prompts
from evoken.flowopt.settings import FlowOptSettings, flowopt_preset
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_clip, load_judge, load_model
from evoken.seeds import torch_generator
from evoken.spec import ModelSpec

RESULTS = Path(__file__).with_suffix(".jsonl")
SHEET = Path(__file__).parent.parent / "docs" / "sheets" / "editing.svg"
AXES = ("clip", "shown", "rmse", "kept")
BUDGET = 230  # calls for one picture: those of the official script's 15 steps and 8 iterations
OFFICIAL_ETA = 0.05  # the best of .01, .05 and .1 on other edits, after as many iterations


class Problem:
    """The edits of one kind, encoded: what every editor gets."""

    def __init__(self, model: LatentModel, scorer: Scorer) -> None:
        self.model, self.images = model, scorer.sources
        self.latents = model.encode(scorer.sources)
        self.sources, self.targets = zip(*(e.prompts for e in scorer.edits), strict=True)

    def sampler(self, steps: int, last: int = 0) -> ModelSampler:
        return ModelSampler(self.model, steps, last)

    def source(self, f: ModelSampler, guidance: float = 1.0) -> Prompts:
        return f.condition(self.sources, guidance)

    def target(self, f: ModelSampler, guidance: float) -> Prompts:
        return f.condition(self.targets, guidance)

    def noise(self, purpose: str) -> Latents:
        """Fresh noise, one per picture."""
        rows = [
            torch.randn(self.latents.shape[1:], generator=torch_generator(i, 0, purpose))
            for i in range(len(self.latents))
        ]
        return torch.stack(rows)


Point = tuple[int, Latents]  # calls per edit so far, results
Editor = Callable[[Problem], Iterator[Point]]


def flowopt(settings: FlowOptSettings) -> Editor:
    """Ours, or the official script, by its settings."""

    def run(p: Problem) -> Iterator[Point]:
        for iterate in edit(settings, p.model, p.images, p.sources, p.targets):
            yield iterate.step.calls // len(p.images), iterate.step.result

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


EDITORS: dict[str, Editor] = {
    "FlowOpt, ours": flowopt(flowopt_preset("edit")),
    "FlowOpt, ours, fresh noise": flowopt(flowopt_preset("edit", fresh=0.5)),
    "FlowOpt, official": flowopt(flowopt_preset("official-sd3-edit", eta=OFFICIAL_ETA)),
    "RF-Inversion": rf_inversion(40, 4.0, (0.1, 0.2, 0.3, 0.4)),
    "FlowEdit": flowedit(40, 1.5, 4.0, (0.55, 0.7, 0.85, 1.0)),
    "inversion and regeneration": regeneration(40, 4.0, (0.55, 0.7, 0.85, 1.0)),
}


def measure(kind: str, count: int, seed: int, known: list[dict[str, Any]]) -> None:
    """Write the points of one kind of edits that are not known yet."""
    done = {r["editor"] for r in known if (r["kind"], r["count"], r["seed"]) == (kind, count, seed)}
    missing = {name: editor for name, editor in EDITORS.items() if name not in done}
    if not missing:
        return
    model = load_model(ModelSpec("stickers-flow"))
    scorer = Scorer(load_clip(), load_judge(), list(draw(kind, count, seed)))
    problem = Problem(model, scorer)
    about = {"kind": kind, "count": count, "seed": seed}
    for name, editor in missing.items():
        rows = []
        for calls, latents in editor(problem):
            if calls <= BUDGET:
                means = {
                    k: round(float(v.nanmean()), 4)
                    for k, v in asdict(scorer(model.decode(latents))).items()
                }
                rows.append(about | {"editor": name, "calls": calls} | means)
                print(*rows[-1].values(), flush=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def ahead(rows: list[dict[str, Any]], editor: str, value: str) -> list[float]:
    """How much more ``value`` the default has at every point of another editor, on the line through
    its own points at the same distance to the source; farther and nearer ones are left out.
    """
    found = []
    for kind, seed in sorted({(r["kind"], r["seed"]) for r in rows}):
        here = [r for r in rows if (r["kind"], r["seed"]) == (kind, seed)]
        ours = sorted((r["rmse"], r[value]) for r in here if r["editor"] == "FlowOpt, ours")
        for row in (r for r in here if r["editor"] == editor):
            for (low, before), (high, after) in pairwise(ours):
                if low <= row["rmse"] <= high:
                    share = (row["rmse"] - low) / max(high - low, 1e-9)
                    found.append(before + share * (after - before) - row[value])
                    break
    return found


def averaged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points of every kind and editor, each the mean over the seeds."""
    found = []
    for kind in KINDS:
        for editor in EDITORS:
            here = [r for r in rows if (r["kind"], r["editor"]) == (kind, editor)]
            seeds = [[r for r in here if r["seed"] == seed] for seed in {r["seed"] for r in here}]
            for points in zip(*seeds, strict=False):  # as far as all stay within the budget
                means = {k: statistics.mean(p[k] for p in points) for k in AXES}
                found.append({"kind": kind, "editor": editor} | means)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=96, help="of a seed, of all kinds")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    count = options.edits // len(KINDS)
    for seed in range(options.seeds):
        for kind in KINDS:
            measure(kind, count, seed, figures.results(RESULTS))
    rows = [
        r for r in figures.results(RESULTS) if r["count"] == count and r["seed"] < options.seeds
    ]
    found: dict[str, object] = {
        "flowopt.edits": len(KINDS) * count * options.seeds,
        "flowopt.edit_seeds": options.seeds,
    }
    for editor in (e for e in EDITORS if e != "FlowOpt, ours"):
        key = editor.replace(",", "").replace(" ", "-").lower()
        for kind in ("", *KINDS):
            part = [r for r in rows if kind in ("", r["kind"])]
            for value in ("clip", "shown"):
                if differences := ahead(part, editor, value):
                    name = ".".join(filter(None, ("flowopt.edit_ahead", key, kind, value)))
                    found[name] = figures.spread(differences)
    figures.update(found)
    write_text(SHEET, curve_sheet(averaged(rows), list(EDITORS), KINDS))


if __name__ == "__main__":
    main()
