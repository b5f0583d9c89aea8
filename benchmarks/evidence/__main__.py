"""Words of every method, side by side.

    python -m benchmarks.evidence [--tuning] [--methods NAME ...] [--concepts 10] [--seeds 3]

Settings are chosen on some concepts (``--tuning``) and reported on others. Results are kept in
benchmarks/evidence.jsonl as they come; the same command goes on where it was. At the end the
``evidence.*`` figures and docs/sheets/evidence.svg are of the methods that were measured on all
concepts and seeds; ``--report`` measures nothing.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures, learn, pool
from benchmarks.evidence import curves
from benchmarks.evidence.methods import METHODS
from benchmarks.evidence.report import Evidence
from benchmarks.evidence.words import Job, measured
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from stickers import world

RESULTS = Path(__file__).parent.with_suffix(".jsonl")
CURVES = figures.FILE.parent / "sheets" / "evidence.svg"
TUNING = 4  # concepts


def concepts(tuning: bool, count: int) -> list[str]:
    """Every third held-out object is to tune on, the others to report; some of them, of every
    kind.
    """
    every = [o.noun for o in world.objects(held_out=True)]
    its = every[::3] if tuning else [noun for i, noun in enumerate(every) if i % 3]
    return [its[i * len(its) // count] for i in range(count)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tuning", action="store_true", help="try the variants of methods")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--concepts", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one thread in each")
    parser.add_argument("--report", action="store_true", help="of what there is")
    options = parser.parse_args()
    known = done()
    if not options.report:
        work([job for job in planned(options, known) if job not in known], options.processes)
    if not options.tuning:
        report(options)
    return 0


def report(options: argparse.Namespace) -> None:
    """Figures and curves of what has been measured on the concepts to report on."""
    known, words = done(), load_model(ModelSpec()).vocabulary().vectors
    nouns, seeds = concepts(False, options.concepts), range(options.seeds)
    rows = {
        (method, noun, seed): row
        for (method, variant, noun, seed), row in known.items()
        if noun in nouns and seed in seeds and variant == best_variant(method, known)
    }
    evidence = Evidence(rows, float(words.norm(dim=1).median()))
    figures.update(evidence.table() | evidence.found())
    curves.draw(evidence, CURVES)


def planned(options: argparse.Namespace, known: dict[Job, dict[str, Any]]) -> list[Job]:
    """What is to be measured, seed by seed."""
    if options.tuning:
        return [
            (method, variant, noun, 0)
            for method in options.methods
            if len(METHODS[method].variants) > 1
            for variant in METHODS[method].variants
            for noun in concepts(True, TUNING)
        ]
    return [
        (method, best_variant(method, known), noun, seed)
        for seed in range(options.seeds)
        for method in options.methods
        for noun in concepts(False, options.concepts)
    ]


def best_variant(method: str, known: dict[Job, dict[str, Any]]) -> str:
    """The variant with the lowest mean loss on the concepts to tune on."""
    variants = list(METHODS[method].variants)
    if len(variants) == 1:
        return variants[0]
    nouns = concepts(True, TUNING)
    try:
        mean = {v: np.mean([known[method, v, noun, 0]["loss"] for noun in nouns]) for v in variants}
    except KeyError:
        raise SystemExit(
            f"{method} is not tuned yet: python -m benchmarks.evidence --tuning"
        ) from None
    return min(variants, key=lambda v: mean[v])


def work(jobs: Sequence[Job], processes: int) -> None:
    """Do the jobs, and keep each result as it comes."""
    for row, _, left in pool.measured(measured, jobs, processes, learn.prepare, "float32", 16):
        figures.append(RESULTS, [row])
        name = f"{row['method']} ({row['variant']})" if row["variant"] else row["method"]
        print(
            f"{name:36} {row['noun']:14} seed {row['seed']}  loss {row['loss']:.4f}  "
            f"judge {row['judge']:.2f}  {row['seconds']:.0f} s  ({left:.0f} min left)",
            flush=True,
        )


def done() -> dict[Job, dict[str, Any]]:
    """The results on these weights."""
    return {
        (row["method"], row["variant"], row["noun"], row["seed"]): row
        for row in figures.results(RESULTS)
        if row["weights"] == learn.weights()
    }


if __name__ == "__main__":
    sys.exit(main())
