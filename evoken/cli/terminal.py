"""The progress of a run on the terminal: a live line, or plain lines where there is no terminal."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from evoken.flowopt.edit import Iterate
from evoken.flowopt.settings import FlowOptSettings
from evoken.images import counted
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.prompts import KINDS
from evoken.textual_inversion.forecast import Forecast
from evoken.textual_inversion.reading import read
from evoken.textual_inversion.settings import LearnSettings
from evoken.textual_inversion.workflow import Progress as LearnProgress

QUIET = 60  # seconds without a line, where there is no terminal


def show_reading(clip: Clip, model: Model, kind: str) -> None:
    """Read the model's vocabulary with CLIP and show how far that is, where it takes long."""
    words = model.vocabulary().words
    console = Console()
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading the vocabulary with CLIP", total=len(words), visible=False)
        for done in read(clip, KINDS[kind].sentences(words)):
            if not bar.tasks[0].visible:
                console.print(f"CLIP reads {len(words):,} words, once for all that are learned.")
            bar.update(task, completed=done, visible=True)


def show(steps: Iterable[LearnProgress], settings: LearnSettings, expected: Forecast) -> None:
    """Consume a run's stream and show it."""
    console = Console()
    what = f"Learning {settings.placeholder!r} with at most {settings.calls:,} calls"
    console.print(f"{what}: {expected}.", soft_wrap=True)
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
    score, shown = "", time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("the first generation", total=settings.calls)
        for step in steps:
            finished = step.learner.finished
            if step.clip_score is not None:
                score = f"  CLIP {step.clip_score.value:.3f}"
            text = describe(step) + score
            about = "drawing the pictures of the report" if finished else text
            total = step.learner.total_calls
            bar.update(task, total=total, completed=step.record.calls, description=about)
            late = time.monotonic() - shown > QUIET
            if not console.is_terminal and (step.clip_score or finished or late):
                console.print(text, soft_wrap=True)
                shown = time.monotonic()


def describe(step: LearnProgress) -> str:
    """Where a run stands: what, how far, how good, how fast, how long still."""
    record, learner = step.record, step.learner
    speed = record.calls / max(record.seconds, 1e-9)
    total = learner.total_calls
    left = max(0, total - record.calls) / max(speed, 1e-9)
    if minutes := learner.settings.minutes:
        left = min(left, max(0, minutes * 60 - record.seconds))
    return (
        f"generation {record.generation} of {learner.generations}  "
        f"{record.calls:,} of {total:,} calls  best loss {learner.best_validation:.4f}  "
        f"sigma {record.sigma:.3f}  {speed:.0f} calls/s  {left:.0f} s left"
    )


@contextmanager
def show_prompts(kind: str, count: int) -> Iterator[Callable[[str], object]]:
    """What an evaluation tells its sentences to, which shows how far it is."""
    prompts = 2 * len(KINDS[kind].samples)  # at the start, and as learned
    console = Console()
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=prompts, completed=-1)
        yield lambda prompt: bar.update(task, advance=1, description=f"{count} of {prompt!r}")


def show_iterates(iterates: Iterable[Iterate], settings: FlowOptSettings, pictures: int) -> None:
    """Consume an inversion's or an edit's stream and show it."""
    console = Console()
    console.print(f"{counted(pictures)}, {settings.iterations} updates.")
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
    before = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("the start", total=settings.iterations + 1)
        for iterate in iterates:
            number = iterate.step.iteration
            now = time.monotonic()
            left, before = (now - before) * (settings.iterations - number), now
            text = f"{describe_iterate(iterate, pictures)}  {left:.0f} s left"
            bar.update(task, completed=number + 1, description=text)
            if not console.is_terminal:
                console.print(text, soft_wrap=True)


def describe_iterate(iterate: Iterate, pictures: int) -> str:
    """Where an inversion or an edit stands, means over pictures."""
    step = iterate.step
    text = (
        f"iterate {step.iteration}  {step.calls / pictures:.0f} calls a picture  "
        f"RMSE {float(iterate.rmse.mean()):.2f}  best residual {float(step.best.mean()):.5f}"
    )
    if iterate.agreement is not None:
        text += f"  CLIP {float(iterate.agreement.mean()):.3f}"
    if back := int(step.diverged.sum()):
        text += f"  diverged: {back} back to the best, in smaller steps"
    return text
