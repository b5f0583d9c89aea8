"""Kills, damaged inputs, and work without end: the ``campaign.*`` figures.

    python -m benchmarks.campaign [--minutes 60] [--only KIND:NUMBER] [--fresh]

Results are kept in benchmarks/campaign.jsonl as they come; the same command goes on where it was.
``--only`` repeats one of them, such as ``image:12`` or ``kills:3``, and keeps its folder.
"""

import argparse
import importlib
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of this process and all that it starts: one thread each, and no network.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

from benchmarks.campaign import given as givens
from benchmarks.campaign import report
from benchmarks.campaign.given import Given
from benchmarks.campaign.inputs import KINDS, run_input
from benchmarks.campaign.kills import run_chain
from benchmarks.campaign.process import adopt, end_with_parent
from benchmarks.campaign.soak import run_soak

OPTIONAL = ("onnx_runtime", "openvino_runtime")  # imported where they are asked for
KILLING = 0.45  # share of the time that kills may take


@dataclass(frozen=True)
class Plan:
    """What is to be done: how much, until when, and where it is kept."""

    given: Given
    folder: Path
    results: Path
    seed: int
    kills: int
    inputs: int
    soak: float
    lanes: int
    seconds: float

    def run(self, kind: str, number: int) -> dict[str, Any]:
        """One case; returns its row."""
        case = self.folder / f"{kind}-{number}"
        about = {"seed": self.seed, "kind": kind, "number": number}
        if kind == "soak":
            return about | run_soak(self.given, self.soak)
        if kind == "kills":
            return about | run_chain(self.given, self.seed, number, case)
        return about | run_input(self.given, self.seed, number, kind, case)

    def work(self, lane: int) -> None:
        """Do every ``lanes``-th case."""
        results = report.rows(self.results, self.seed)
        done = {(r["kind"], r["number"]) for r in results}
        kills = sum(r["kills"] for r in results if r["kind"] == "kills")
        wanted = (self.kills - kills) / self.lanes
        started = time.monotonic()
        for kind, number in self._cases(lane):
            spent = time.monotonic() - started
            if spent > self.seconds:
                return
            if (kind, number) in done:
                continue
            if kind == "kills" and (wanted <= 0 or spent > KILLING * self.seconds):
                continue
            row = self.run(kind, number)
            report.keep(self.results, row)
            wanted -= row.get("kills", 0)
            if trouble := row.get("problems") or row.get("found"):
                print(f"{kind}:{number} {trouble}", flush=True)
            shutil.rmtree(self.folder / f"{kind}-{number}", ignore_errors=True)

    def _cases(self, lane: int) -> Iterator[tuple[str, int]]:
        if lane == 0 and self.soak:
            yield "soak", 0
        for number in range(lane, self.kills, self.lanes):
            yield "kills", number
        names = list(KINDS)
        for number in range(lane, self.inputs, self.lanes):
            yield names[number % len(names)], number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="at most, of all together")
    parser.add_argument("--kills", type=int, default=report.KILLS)
    parser.add_argument("--inputs", type=int, default=report.INPUTS)
    parser.add_argument("--soak", type=float, default=8, help="minutes; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", metavar="KIND:NUMBER", help="repeat one case and show all of it")
    parser.add_argument("--results", type=Path, default=report.RESULTS)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        options.results.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the lanes would go on
    started = time.monotonic()
    import_everything()
    folder = Path(tempfile.mkdtemp(prefix="evoken-campaign-"))
    adopt()
    try:
        plan = Plan(
            givens.make(folder / "given"),
            folder,
            options.results.absolute(),
            options.seed,
            options.kills,
            options.inputs,
            options.soak,
            options.lanes,
            options.minutes * 60 - (time.monotonic() - started),
        )
        if options.only:
            return only(plan, options.only)
        print(f"ready after {time.monotonic() - started:.0f} s: {plan.given.seconds}", flush=True)
        lanes = [start(plan, lane) for lane in range(options.lanes)]
        failed = wait(lanes)
    finally:
        if not options.only:
            shutil.rmtree(folder, ignore_errors=True)
    results = report.rows(options.results, options.seed)
    if options.results == report.RESULTS:
        report.publish(results)
    else:
        report.show(report.found(results))
    return int(failed)


def import_everything() -> None:
    """What commands import; but nothing is computed here, so that processes can be forked."""
    import evoken

    importlib.import_module("evoken.libraries")  # before tests import what is in it, aloud
    importlib.import_module("tests.tiny")
    for module in pkgutil.walk_packages(evoken.__path__, "evoken."):
        if not module.name.endswith(OPTIONAL):
            importlib.import_module(module.name)


def only(plan: Plan, name: str) -> int:
    """Repeat one case, and keep its folder."""
    kind, _, number = name.partition(":")
    row = plan.run(kind, int(number))
    for key, value in row.items():
        print(f"{key:12} {value}")
    print(f"{'folder':12} {plan.folder / f'{kind}-{number}'}")
    return int(bool(row.get("problems") or row.get("found")))


def start(plan: Plan, lane: int) -> int:
    """A process that does a share of the cases, one after the other."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_parent()
        adopt()
        plan.work(lane)
        code = 0
    except KeyboardInterrupt:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(lanes: list[int]) -> bool:
    """Whether one of the lanes failed; they end with this process."""
    try:
        ends = [os.waitpid(pid, 0)[1] for pid in lanes]
    except BaseException:
        for pid in lanes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        raise
    return any(ends)


if __name__ == "__main__":
    sys.exit(main())
