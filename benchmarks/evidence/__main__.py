"""Words of every method, side by side.

    python -m benchmarks.evidence [--tuning] [--model stickers-flow] [--table ablations]
        [--methods NAME ...] [--concepts 10] [--seeds 3]

Settings are chosen on some concepts (``--tuning``) and reported on others. Results are kept in
benchmarks/evidence.jsonl as they come; the same command goes on where it was. At the end the
``evidence.*`` figures and the curves in docs/sheets are of the methods that were measured on all
concepts, with as many seeds as each has on all; ``--report`` measures nothing.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from benchmarks import figures, pool
from benchmarks.evidence import words
from benchmarks.evidence.methods import EQUAL_SECONDS
from benchmarks.evidence.publish import publish
from benchmarks.evidence.results import RESULTS, Job, best_variant, done
from benchmarks.evidence.tables import ALL, MODELS, TABLES, TUNING, Table, concepts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="stickers", choices=MODELS)
    parser.add_argument("--table", default="methods", choices=sorted({t for _, t in TABLES}))
    parser.add_argument("--tuning", action="store_true", help="try the variants of methods")
    parser.add_argument("--methods", nargs="+", choices=list(ALL), metavar="NAME")
    parser.add_argument("--concepts", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one thread in each")
    parser.add_argument("--report", action="store_true", help="of what there is")
    options = parser.parse_args()
    if (options.model, options.table) not in TABLES:
        parser.error(f"the {options.table} are measured on stickers")
    table = TABLES[options.model, options.table]
    changes = {name: getattr(options, name) for name in ("concepts", "seeds")}
    table = table._replace(**{name: value for name, value in changes.items() if value})
    if not options.report:
        known = done(options.model)
        asked = table._replace(methods=options.methods or table.methods)
        jobs = tuned(asked.methods) if options.tuning else reported(asked, options.model)
        if missing := [job for job in jobs if job not in known]:
            work(missing, options.model, options.processes, options.tuning)
    if not options.tuning:
        publish(table, options.model)
    return 0


def tuned(methods: Sequence[str]) -> list[Job]:
    """What is to be measured for the choice of variants."""
    return [
        (method, variant, noun, 0)
        for method in methods
        if len(ALL[method].variants) > 1 and not ALL[method].like
        for variant in ALL[method].variants
        for noun in concepts(True, TUNING)
    ]


def reported(table: Table, model: str) -> list[Job]:
    """What is to be measured for a table, seed by seed."""
    if any(method.endswith(EQUAL_SECONDS) for method in table.methods):
        words.equal_seconds()  # ends here if it is not known
    best = {method: best_variant(method, model) for method in table.methods}
    return [
        (method, best[method], noun, seed)
        for seed in range(table.seeds)
        for method in table.methods
        for noun in table.nouns(table.concepts)
    ]


def work(jobs: Sequence[Job], model: str, processes: int, tuning: bool) -> None:
    """Do the jobs, and keep each result as it comes."""
    of = words.tried if tuning else words.measured
    for row, _, left in pool.measured(of, jobs, processes, words.prepare, model):
        figures.append(RESULTS, [row])
        name = f"{row['method']} ({row['variant']})" if row["variant"] else row["method"]
        judged = f"judge {row['judge']:.2f}  " if "judge" in row else ""
        print(
            f"{name:36} {row['noun']:14} seed {row['seed']}  loss {row['loss']:.4f}  "
            f"{judged}{row['seconds']:.0f} s  ({left:.0f} min left)",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
