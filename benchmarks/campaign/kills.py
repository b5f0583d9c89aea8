"""Kills at random moments: a run that goes on after them ends as one that nobody interrupted."""

import json
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.campaign.given import MODES, Given
from benchmarks.campaign.process import PATIENCE, Command, left_over
from evoken.seeds import numpy_generator

MOST = 6  # kills before a run is left to itself
HIDDEN = re.compile(r"\..*\..{8}")  # what evoken.files names what it has not finished
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WAYS = ("learn", "learn", "learn", "edit", "edit", "invert", "learn-workers", "learn-ray")
RAYS_PATIENCE = 90.0  # seconds; the agents of a Ray that was killed look for it for a minute
NEW = 0.15  # share of the processes that are not forked, but begin with their imports
SLOW, SLOW_TO_END = 600.0, 60.0  # seconds after which a command is stuck; one asked to end


def run_chain(given: Given, seed: int, number: int, case: Path) -> dict[str, Any]:
    """Start a command, kill it, go on, until it has finished; returns what was found."""
    random = numpy_generator(seed, number, "kills")
    mode = WAYS[number % len(WAYS)]
    command, more = MODES[mode]
    run = case / "here" / "run"
    planned = int(random.integers(1, MOST + 1))
    killed: list[str] = []
    problems: list[str] = []
    rays = Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))  # Ray's names must be short
    finished = False
    while not finished:
        begun = (run / "config.json").exists()
        arguments = [command, "--resume", "run"] if begun else given.arguments(command, "run")
        new = bool(random.random() < NEW)
        expected = given.seconds[mode] + (given.seconds["new"] if new else 0.0)
        moment = expected * float(random.uniform(0, 1.1))
        which = SIGNALS[int(random.integers(len(SIGNALS)))]
        to_group = which == signal.SIGINT and bool(random.random() < 0.5)
        process = Command([*arguments, *more], case, new, {"RAY_TMPDIR": str(rays)})
        if len(killed) == planned or process.wait(moment):
            ended, finished = process.end(SLOW), True
            if ended.code:
                problems.append(f"not continued: exit code {ended.code}: {ended.said[-300:]}")
            continue
        process.send(which, to_group)
        ended = process.end(SLOW_TO_END)
        killed.append(f"{which.name}{' of a new process' * new} at {moment:.2f} s")
        # A new process is Python's own until evoken's first line.
        its_own = not new or "evoken/cli" in ended.said
        if its_own and ended.code not in (0, -which, 128 + which):
            problems.append(f"{killed[-1]}: exit code {ended.code}: {ended.said[-300:]}")
    problems += [
        f"still running: {name}" for name in left_over(RAYS_PATIENCE if "ray" in mode else PATIENCE)
    ]
    problems += [f"left: {file.name}" for file in rays.iterdir()]
    shutil.rmtree(rays, ignore_errors=True)
    hidden = [p for p in (case / "here").rglob(".*") if HIDDEN.fullmatch(p.name)]
    problems += [f"left: {p.relative_to(case)}" for p in hidden]
    problems += differences(given.whole(command), run)
    return {"mode": mode, "kills": len(killed), "killed": killed, "problems": problems}


def differences(whole: Path, run: Path) -> list[str]:
    """What of a run is not as in one that nobody interrupted, byte for byte; times aside."""
    found = []
    if records_of(whole) != records_of(run):
        found.append("records.jsonl differs")
    made = [p for p in results_of(whole) if p.is_file()]
    for file in made:
        other = run / file.relative_to(whole)
        if not other.is_file() or other.read_bytes() != file.read_bytes():
            found.append(f"{file.relative_to(whole)} differs")
    return found


def records_of(run: Path) -> list[dict[str, Any]]:
    """The records of a run without times and what is computed of them."""
    try:
        lines = (run / "records.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []
    return [{k: v for k, v in r.items() if k not in ("seconds", "crc32")} for r in records]


def results_of(run: Path) -> list[Path]:
    """The files of a run's results, in which no time and no date is."""
    names = ("learned_embeds.safetensors", "result.json", "noise.safetensors")
    folders = ("states", "iterates", "previews", "samples", "inputs")
    return [run / n for n in names] + [p for f in folders for p in sorted((run / f).glob("*"))]
