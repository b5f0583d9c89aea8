"""What is to be measured, what has been, and the measuring itself, in as many processes."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import figures, pool
from benchmarks.editing.edits import edits
from benchmarks.editing.methods import METHODS
from benchmarks.editing.problem import Problem
from benchmarks.editing.scores import Scorer
from evoken.models.clip import Clip
from evoken.models.embedded import STICKERS
from evoken.models.families.latent import LatentModel
from evoken.models.judge import Judge
from evoken.models.load import load_clip, load_judge, load_model
from evoken.spec import ModelSpec

RESULTS = Path(__file__).parent.with_suffix(".jsonl")
CHUNK = 16  # edits that are made side by side: a denoiser is fastest on so many rows
PARTS = ("stickers-flow", "vae", "clip", "judge")  # what results depend on, beside the code

Row = dict[str, Any]


class Variant(NamedTuple):
    """One way to edit: a method with its settings, at a strength."""

    method: str
    settings: str
    strength: float

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.method, self.settings, f"{self.strength:g}")))


class Job(NamedTuple):
    """A method's settings, at some strengths, on one chunk of a list of edits."""

    method: str
    settings: str
    strengths: tuple[float, ...]
    which: str
    first: int


Key = tuple[Variant, str, int]  # on which list, and the first edit of the chunk


def every_variant(methods: Iterable[str]) -> list[Variant]:
    """All that is tried of some methods."""
    return [
        Variant(method, name, float(strength))
        for method in methods
        for name, settings in METHODS[method].items()
        for strength in settings.strengths
    ]


def planned(variants: Sequence[Variant], which: str, count: int, known: Iterable[Key]) -> list[Job]:
    """The jobs that give the rows that are missing, chunk by chunk."""
    there, jobs = set(known), list[Job]()
    for first in range(0, count, CHUNK):
        missing: dict[tuple[str, str], list[float]] = {}
        for v in variants:
            if (v, which, first) not in there:
                missing.setdefault((v.method, v.settings), []).append(v.strength)
        jobs += [Job(*its, tuple(s), which, first) for its, s in missing.items()]
    return jobs


def done() -> dict[Key, Row]:
    """The results on these weights."""
    return {key(row): row for row in figures.results(RESULTS) if row["weights"] == weights()}


def key(row: Row) -> Key:
    return Variant(row["method"], row["settings"], row["strength"]), row["list"], row["first"]


def forget(methods: Sequence[str]) -> None:
    """Take the results of some methods out of the file, after they have changed."""
    figures.keep(RESULTS, lambda row: row["method"] not in methods)


def forecast(jobs: Sequence[Job], rows: Sequence[Row]) -> float:
    """Hours of a core that jobs take, if an edit takes as long as it did with the same method; of
    one that was never measured, as long as it did in the mean.

    Raises:
        ValueError: nothing was measured yet.
    """
    seconds: dict[str, list[float]] = {}
    for row in rows:
        seconds.setdefault(row["method"], []).append(row["seconds"] / len(row["judge"]))
    if not seconds:
        raise ValueError("nothing was measured yet")
    mean = {method: sum(s) / len(s) for method, s in seconds.items()}
    other = sum(mean.values()) / len(mean)
    return sum(mean.get(j.method, other) * CHUNK * len(j.strengths) for j in jobs) / 3600


def work(jobs: Sequence[Job], processes: int) -> None:
    """Do the jobs, and keep each one's rows as they come."""
    for rows, count, left in pool.measured(measured, jobs, processes, prepare):
        figures.append(RESULTS, rows)
        for row in rows:
            shown = [v for v in row["outside"] if v is not None]
            print(
                f"{Variant(row['method'], row['settings'], row['strength'])!s:56} "
                f"{row['list']} {row['first']}  judge {sum(row['judge']) / len(row['judge']):.2f}  "
                f"outside {sum(shown) / max(1, len(shown)):.1f}  {row['calls']:.0f} calls  "
                f"({count} of {len(jobs)} jobs, {left:.0f} min left)",
                flush=True,
            )


class Tools(NamedTuple):
    """What a process loads once."""

    model: LatentModel
    clip: Clip
    judge: Judge


tools: Tools


def prepare() -> None:
    """One thread in each process: small networks gain little from more."""
    global tools
    torch.set_num_threads(1)
    tools = Tools(load_model(ModelSpec("stickers-flow")), load_clip(), load_judge())


def measured(job: Job) -> list[Row]:
    """The rows of a job, one for each strength; they share its seconds of a core evenly."""
    chosen = edits(job.which, range(job.first, job.first + CHUNK))
    problem, scorer = Problem(tools.model, chosen), Scorer(tools.clip, tools.judge, chosen)
    started, rows = time.process_time(), list[Row]()
    for result in METHODS[job.method][job.settings].run(problem, job.strengths):
        about: Row = {"weights": weights(), "method": job.method, "settings": job.settings}
        about |= {"strength": float(result.strength), "list": job.which, "first": job.first}
        rows.append(about | {"calls": round(result.calls, 1)} | scorer(result))
    seconds = round((time.process_time() - started) / len(rows), 1)
    return [row | {"seconds": seconds} for row in rows]


@cache
def weights() -> str:
    """Names the shipped weights that a result belongs to."""
    found = hashlib.sha256()
    for part in PARTS:
        for file in sorted((STICKERS / part).rglob("*.safetensors")):
            found.update(file.read_bytes())
    return found.hexdigest()[:12]


def joined(
    known: Mapping[Key, Row], variants: Iterable[Variant], which: str, count: int
) -> Iterator[tuple[Variant, Row]]:
    """The rows of those variants that were measured on all edits, one each, with the values of all
    edits in their order.
    """
    for v in variants:
        parts = [known.get((v, which, first)) for first in range(0, count, CHUNK)]
        whole = [part for part in parts if part is not None]
        if whole and len(whole) == len(parts):
            yield v, _one(whole)


def _one(parts: Sequence[Row]) -> Row:
    row: Row = {"calls": sum(p["calls"] for p in parts) / len(parts)}
    for name, value in parts[0].items():
        if isinstance(value, list):
            row[name] = [x for part in parts for x in part[name]]
    return row
