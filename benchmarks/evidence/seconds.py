"""How long a call takes, and a sample with gradients: the ``evidence.seconds.*`` figures.

    python -m benchmarks.evidence.seconds [--cores 2] [--repeats 7] [--fresh]

Whole generations of evoken and steps of textual inversion take turns, so that whatever else the
machine does slows both; all is in bfloat16. Evoken's calls are independent: every core has a
worker. A step of a few samples gains little from a second core, so for gradients the faster of one
thread and all is taken. Needs a quiet machine: nothing else should run. The budgets of other rows
depend on these figures, so they are measured once; ``--fresh`` does it again.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import closing

import torch

from benchmarks import figures, learn
from benchmarks.evidence import words
from benchmarks.evidence.contest import Contest
from benchmarks.evidence.methods import TOGETHER
from benchmarks.gradient import BATCH
from evoken.evaluation.processes import Processes
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.recipe import Recipe
from evoken.textual_inversion.settings import preset

NOUN = "unicorn"
SAMPLES = 96  # with gradients, in a turn: about as long as a generation


def seconds_per_call(learner: Learner) -> float:
    """Of a generation, all that belongs to it included."""
    before, started = learner.calls, time.perf_counter()
    learner.step()
    return (time.perf_counter() - started) / (learner.calls - before)


def seconds_per_sample(contest: Contest, batch: int, cores: int) -> float:
    """Of some steps: forward and backward for each of their samples."""
    torch.set_num_threads(cores)
    started = time.perf_counter()
    for step in range(SAMPLES // batch):
        contest.gradient(contest.start, step, batch)
    torch.set_num_threads(1)
    return (time.perf_counter() - started) / SAMPLES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--fresh", action="store_true", help="measure again what is known")
    options = parser.parse_args()
    if "evidence.seconds.sample_in_calls" in figures.read() and not options.fresh:
        return
    words.prepare("stickers")
    measure, images = learn.measure, learn.concept_images(NOUN)
    settings = preset("default", placeholder=learn.WORD, effort="thorough")
    model = measure.model
    recipe = Recipe.of(settings, model.spec, "stickers", images)
    torch.set_num_threads(options.cores)
    with closing(Processes(recipe, options.cores)) as workers:
        torch.set_num_threads(1)
        learner = Learner(settings, model, images, measure.clip, workers)
        contest = words.begun("gradients", NOUN, 0)
        turns = [turn(learner, contest, options.cores) for _ in range(options.repeats + 1)]
    write(turns[1:])  # the first turn warms up


def turn(learner: Learner, contest: Contest, cores: int) -> dict[str, float]:
    """Seconds of a call, and of a sample in small steps and in large ones."""
    found = {"call": seconds_per_call(learner)}
    for name, batch in (("sample", TOGETHER), ("small_sample", BATCH)):
        found[name] = min(seconds_per_sample(contest, batch, c) for c in (1, cores))
    print("  ".join(f"{name} {1e3 * value:.2f} ms" for name, value in found.items()), flush=True)
    return found


def write(turns: Sequence[dict[str, float]]) -> None:
    """The figures."""
    found = {f"evidence.seconds.{name}_ms": [1e3 * t[name] for t in turns] for name in turns[0]}
    for name in ("sample", "small_sample"):
        found[f"evidence.seconds.{name}_in_calls"] = [t[name] / t["call"] for t in turns]
    figures.update({name: figures.spread(values) for name, values in found.items()})


if __name__ == "__main__":
    main()
