"""What a run will take, said before it starts: measured on a few of its own calls."""

import time
from dataclasses import dataclass

import torch

from evoken.models.batches import UNIT
from evoken.models.memory import peak
from evoken.models.runtimes.requirements import imitates
from evoken.prompts import EDITING_PROMPTS
from evoken.textual_inversion.learn import Learner
from evoken.workflow import PREVIEWS

ROWS = 64  # calls of the measurement, where they are quick
SLOW = 2.0  # seconds; no second measurement where the first took longer
STEPS = 25  # of a preview; every one computes at least a whole unit of rows
ROWS_OF_A_SHEET = -(-2 * PREVIEWS // UNIT) * UNIT  # with and without the prompt


@dataclass(frozen=True)
class Forecast:
    """Attributes:
    minutes: until the run's report is written.
    gigabytes: the most memory that was held in the measurement: of the process on a CPU, of
        tensors on an accelerator.
    advice: what would make it faster.
    """

    minutes: float
    gigabytes: float
    advice: str = ""

    def __str__(self) -> str:
        return f"about {self.minutes:.1f} min, {self.gigabytes:.1f} GB of memory{self.advice}"


def forecast(learner: Learner, calls_done: int = 0) -> Forecast:
    """Measure the objective on some candidates: no random number of the run is used up, and no
    budget pays for it.

    Args:
        calls_done: of a run that is continued.
    """
    settings, model = learner.settings, learner.model
    words = learner.subspace.origin[None]

    def seconds_per_call(candidates: int) -> tuple[float, float]:
        population = words.expand(candidates, *words.shape[1:])
        before, started = model.calls, time.perf_counter()
        learner.objective.evaluate(population, 0)
        seconds = time.perf_counter() - started
        calls, model.calls = model.calls - before, before
        return seconds, seconds / calls

    seconds, each = seconds_per_call(1)  # the first pass also warms up
    if seconds < SLOW:
        _, each = seconds_per_call(_candidates(ROWS, settings.draws, settings.popsize))
    minutes = (learner.total_calls - calls_done) * each / 60
    if settings.minutes:
        minutes = min(minutes, settings.minutes)
    minutes += _sheets(learner) * STEPS * ROWS_OF_A_SHEET * each / 60
    spec = model.spec
    advice = f"; this CPU imitates {spec.precision}, float32 is faster" if imitates(spec) else ""
    return Forecast(minutes, peak(torch.device(spec.device)) / 1e9, advice)


def _candidates(rows: int, draws: int, popsize: int) -> int:
    return min(max(1, rows // draws), popsize)


def _sheets(learner: Learner) -> int:
    """Previews, and the pairs of sheets at the end, which are drawn together."""
    s = learner.settings
    previews = 1 + learner.generations // s.preview_every if s.preview_every else 1
    return previews + 1 + len(EDITING_PROMPTS[s.kind])
