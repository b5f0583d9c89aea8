"""Faults made on purpose, and which of them the tests see: the ``campaign.mutants*`` figures.

    python -m benchmarks.mutants [--minutes 60] [--only MODULE ...] [--survivors | --show]

Results are kept in benchmarks/mutants.jsonl as they come; the same command goes on where it was.
Those of a module hold until its source changes; when tests have changed, ``--survivors`` tries
those mutants again that no test saw.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

# Of this process and all that it starts: one thread each, and no network.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

from benchmarks import figures
from benchmarks.mutants import report
from benchmarks.mutants.made import PACKAGE, Mutant, mutants_of, version_of
from benchmarks.mutants.reach import reach
from benchmarks.mutants.run import Seen, fate, import_libraries, watch
from benchmarks.mutants.tests import TESTS

MOST = 30  # mutants of a module
ENOUGH = 60.0  # seconds of tests, the quick ones first, after which a mutant counts as survived


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="MODULE", choices=list(TESTS))
    parser.add_argument("--survivors", action="store_true", help="test those again that survived")
    parser.add_argument("--show", action="store_true", help="what survived; test nothing")
    options = parser.parse_args()
    modules = options.only or list(TESTS)
    mutants = {module: mutants_of(module, MOST, options.seed) for module in modules}
    rows = report.Rows(report.RESULTS, options.seed, {m: version_of(m) for m in modules})
    left = {
        module: [m for m in its if rows.wants(m, again=options.survivors)]
        for module, its in mutants.items()
    }
    if any(left.values()) and not options.show:
        work(left, rows, time.monotonic() + 60 * options.minutes)
    results = rows.of(m for its in mutants.values() for m in its)
    report.show(results)
    report.table(results)
    if options.show:
        return 0
    if options.only or len(results) < sum(map(len, mutants.values())):
        print("Without the others there are no figures: the same command goes on.")
    else:
        figures.update(report.found(results))
        figures.pack(report.RESULTS)
    return 0


def work(mutants: Mapping[str, list[Mutant]], rows: report.Rows, until: float) -> None:
    """Test mutants, module by module."""
    folder = Path(tempfile.mkdtemp(prefix="evoken-mutants-"))
    try:
        import_libraries(folder)
        for module, its in mutants.items():
            if its and time.monotonic() < until:
                work_on(module, its, rows, folder, until)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def work_on(
    module: str, mutants: list[Mutant], rows: report.Rows, folder: Path, until: float
) -> None:
    """Test mutants of a module."""
    started = time.monotonic()
    seen = watch(module, [f"tests/test_{name}.py" for name in TESTS[module]], folder)
    print(f"{module}: {len(mutants)} mutants, {len(seen.seconds)} tests", flush=True)
    for mutant in mutants:
        if time.monotonic() > until:
            return
        began = time.monotonic()
        outcome, by = tested(mutant, seen, folder)
        rows.keep(mutant, outcome, by, time.monotonic() - began)
    print(f"{'':8}{time.monotonic() - started:.0f} s", flush=True)


def tested(mutant: Mutant, seen: Seen, folder: Path) -> tuple[str, str]:
    """What becomes of a mutant (see ``fate``), by the tests that reach it."""
    source = (PACKAGE / mutant.module).read_text(encoding="utf-8")
    # What no test executes may be executed when the module is imported.
    reached = reach(source, mutant.line, seen.lines) & seen.seconds.keys() or seen.seconds.keys()
    quick_first = sorted(reached, key=lambda test: seen.seconds[test])
    sums = accumulate(seen.seconds[test] for test in quick_first)
    tests = {t: seen.seconds[t] for t, sum_ in zip(quick_first, sums, strict=True) if sum_ < ENOUGH}
    return fate(mutant.module, mutant.source, tests, folder)


if __name__ == "__main__":
    sys.exit(main())
