"""What a run will take, said before it starts: measured on a few of its own calls."""

import time
from dataclasses import dataclass
from math import ceil

import torch
from torch import nn

from evoken.models.batches import UNIT, fitting
from evoken.models.card import said_of_weights
from evoken.models.memory import available, measured, peak
from evoken.models.runtimes.requirements import imitates
from evoken.runtimes import RUNTIMES
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.workflow import (
    calls_of_no_word,
    calls_of_previews,
    calls_of_sheets,
)

SLOW = 2.0  # seconds; no second measurement where the first took longer


@dataclass(frozen=True)
class Forecast:
    """Attributes:
    minutes: until the run's report is written.
    gigabytes: the most memory that will be held: of a process on a CPU, of tensors on an
        accelerator.
    workers: that share the search, each with that much memory.
    advice: what would make it faster.
    weights: what of the model a card holds; "" where there is none.
    """

    minutes: float
    gigabytes: float
    workers: int = 1
    advice: str = ""
    weights: str = ""

    def __str__(self) -> str:
        memory = f"{self.gigabytes:.1f} GB of memory"
        if self.workers > 1:
            memory += f" in each of {self.workers} workers"
        weights = f"; {self.weights}" if self.weights else ""
        return f"about {self.minutes:.1f} min, {memory}{weights}{self.advice}"


def forecast(learner: Learner, calls_done: int = 0) -> Forecast:
    """Measure the objective on some candidates and draw a picture: no random number of the run is
    used up, and no budget pays for it.

    First one unit of rows is measured, which one core computes. Where that is quick and no workers
    share the search, a whole chunk follows; elsewhere what more cores, workers and larger batches
    make of it is computed.

    Args:
        calls_done: of a run that is continued.
    """
    settings, model, workers = learner.settings, learner.model, learner.evaluator.workers
    device, before = torch.device(model.spec.device), model.calls
    free = available(device)
    (seconds, each), grown = measured(lambda: _chunk(learner, UNIT // settings.chunk), device)
    held = peak(device)
    drawing = each
    if seconds < SLOW and workers == 1:
        _, drawing = _chunk(learner, UNIT // settings.chunk)  # the first pass warmed up
        _, each = _chunk(learner, settings.popsize)
    else:
        units = _units(learner, fitting(grown, free))
        held += grown * (units - 1)
        each /= _at_once(learner, units)
    model.decode(model.noise([0]))
    model.calls = before
    minutes, last = (learner.total_calls - calls_done) * each / 60, learner.generations
    if settings.minutes:
        minutes = min(minutes, max(0.0, settings.minutes - learner.seconds / 60))
        todo = ceil(minutes * 60 / (learner.cost * each))
        last = min(last, max(learner.generation, 0) + todo)
    drawn = calls_of_previews(learner, last) + calls_of_sheets(learner)
    drawn += calls_of_no_word(learner, known=calls_done > 0)
    minutes += drawn * drawing / 60
    spec = model.spec
    advice = f"; this CPU imitates {spec.precision}, float32 is faster" if imitates(spec) else ""
    weights = said_of_weights(_parts(learner), spec)
    return Forecast(minutes, max(held, peak(device)) / 1e9, workers, advice, weights)


def _chunk(learner: Learner, candidates: int) -> tuple[float, float]:
    """Seconds of one chunk of a generation with so many candidates, and seconds of a call in it;
    of several models, the means of a chunk of each.
    """
    words, objective = learner.subspace.origin[None], learner.objective
    count = min(max(1, candidates), learner.settings.popsize)
    population = words.expand(count, *words.shape[1:])
    chunks = {chunk.model: chunk for chunk in reversed(objective.split(count, 0))}
    started = time.perf_counter()
    calls = sum(objective.part(population, chunk).calls for chunk in chunks.values())
    seconds = time.perf_counter() - started
    return seconds / len(chunks), seconds / calls


def _parts(learner: Learner) -> dict[str, nn.Module]:
    """What comes onto a card, by its name for people."""
    first, *others = learner.objective.models
    found = dict(first.parts)
    for other in others:
        found |= {f"{name} of the second model": part for name, part in other.parts.items()}
    return found


def _units(learner: Learner, fitting: int) -> int:
    """Units of rows in the run's batches, where memory holds ``fitting``."""
    settings, batch = learner.settings, learner.model.spec.batch
    rows = settings.popsize * min(settings.chunk, settings.draws)
    return min(-(-batch // UNIT) if batch else fitting, -(-rows // UNIT))


def _at_once(learner: Learner, units: int) -> int:
    """How many units are computed at a time: by workers, and on a CPU by each worker's cores."""
    spec, evaluator = learner.model.spec, learner.evaluator
    chunks = len(learner.objective.split(learner.settings.popsize, 0))
    shared = spec.device == "cpu" and not RUNTIMES[spec.runtime].own_threads
    return min(evaluator.workers, chunks) * (min(evaluator.threads, units) if shared else 1)
