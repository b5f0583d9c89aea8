"""The memory that every method takes: the ``evidence.METHOD.megabytes`` figures.

    python -m benchmarks.evidence.memory [--calls 1500] [--methods NAME ...]

Every method has a process of its own. Its figure is how much the memory in use grew at most from
when the models were loaded, for a few generations; the models are the same for all.
"""

import argparse
from multiprocessing import get_context

import torch

from benchmarks import figures
from benchmarks.evidence import words
from benchmarks.evidence.contest import run
from benchmarks.evidence.methods import METHODS
from benchmarks.evidence.report import NOTHING, slug
from evoken.models.memory import give_back, measured

NOUN = "unicorn"
CPU = torch.device("cpu")


def grown(method: str, calls: int) -> float:
    """Megabytes."""
    words.prepare("stickers")
    contest = words.begun(method, NOUN, 0, calls, held_out=lambda word: 0.0)
    variant = next(iter(METHODS[method].variants.values()))
    give_back(CPU)  # what loading left
    return measured(lambda: run(variant, contest), CPU)[1] / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_500)
    usual = [name for name, row in METHODS.items() if name != NOTHING and not row.like]
    parser.add_argument("--methods", nargs="+", default=usual, choices=usual, metavar="NAME")
    options = parser.parse_args()
    for method in options.methods:
        with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            found = pool.apply(grown, (method, options.calls))
        figures.update({f"evidence.{slug(method)}.megabytes": round(found, 1)})


if __name__ == "__main__":
    main()
