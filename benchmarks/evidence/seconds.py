"""How long a call takes, and a sample with gradients: the ``evidence.seconds.*`` figures.

    python -m benchmarks.evidence.seconds [--cores 2] [--repeats 7]

Whole generations of evoken's default and steps of textual inversion take turns in one process, so
that whatever else the machine does slows both. Evoken's calls are independent, and share the cores;
a step of a few samples gains little from a second core, so for gradients the faster of one thread
and all is taken. Needs a quiet machine: nothing else should run.
"""

import argparse
import time

import torch

from benchmarks import figures, learn
from benchmarks.evidence import words
from benchmarks.evidence.contest import Contest
from benchmarks.gradient import BATCH
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import preset

NOUN = "unicorn"
STEPS = 24  # with gradients, in a turn: about as long as a generation


def seconds_per_call(learner: Learner) -> float:
    """Of a generation, all that belongs to it included."""
    before, started = learner.calls, time.perf_counter()
    learner.step()
    return (time.perf_counter() - started) / (learner.calls - before)


def seconds_per_sample(contest: Contest) -> float:
    """Of some steps: forward and backward for each of their samples."""
    started = time.perf_counter()
    for step in range(STEPS):
        contest.gradient(contest.start, step, BATCH)
    return (time.perf_counter() - started) / (STEPS * BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    words.prepare("stickers")
    measure, images = learn.measure, learn.concept_images(NOUN)
    learner = Learner(
        preset("default", placeholder=learn.WORD), measure.model, images, measure.clip
    )
    contest = words.begun("gradients", NOUN, 0)
    both = (1, options.cores)
    calls: dict[int, list[float]] = {cores: [] for cores in both}
    samples: dict[int, list[float]] = {cores: [] for cores in both}
    for repeat in range(-1, options.repeats):  # the first turn warms up
        for cores in both:
            torch.set_num_threads(cores)
            call, sample = seconds_per_call(learner), seconds_per_sample(contest)
            if repeat >= 0:
                calls[cores].append(call)
                samples[cores].append(sample)
                print(f"{cores} cores: call {1e3 * call:.1f} ms, sample {1e3 * sample:.1f} ms")
    alone, together = both
    fastest = [min(pair) for pair in zip(samples[alone], samples[together], strict=True)]
    ratios = {
        "sample_in_calls": zip(fastest, calls[together], strict=True),
        "sample_in_calls_one_core": zip(samples[alone], calls[alone], strict=True),
        "speed_of_second_core": zip(calls[alone], calls[together], strict=True),
        "speed_of_second_core_gradient": zip(samples[alone], fastest, strict=True),
    }
    found: dict[str, object] = {
        f"evidence.seconds.{name}": figures.spread([a / b for a, b in pairs])
        for name, pairs in ratios.items()
    }
    figures.update(
        found
        | {
            "evidence.seconds.call_ms": figures.spread([1e3 * s for s in calls[together]]),
            "evidence.seconds.sample_ms": figures.spread([1e3 * s for s in fastest]),
        }
    )


if __name__ == "__main__":
    main()
