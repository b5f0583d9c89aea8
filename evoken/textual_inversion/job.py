"""Learning a word into a run folder: from Python, and what ``evoken learn`` does."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from evoken.arrays import PathLike
from evoken.errors import ImageError, shown
from evoken.evaluation.evaluator import Evaluator
from evoken.evaluation.processes import Processes
from evoken.evaluation.ray_cluster import RayWorkers
from evoken.images import CHECKED, ImageSet, counted, listing, load_images
from evoken.models.clip import Clip
from evoken.models.embedded import sticker_note
from evoken.models.families.latent import LatentModel
from evoken.models.load import clip_if_any, default_clip, started
from evoken.pictures.metrics import Score
from evoken.progress import SILENT, Display
from evoken.prompts import KINDS
from evoken.run_folder import check_new, held
from evoken.spec import ModelSpec
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.forecast import forecast
from evoken.textual_inversion.learn import Learner, Record
from evoken.textual_inversion.reading import read
from evoken.textual_inversion.recipe import Recipe
from evoken.textual_inversion.settings import LearnSettings
from evoken.textual_inversion.workflow import (
    Sheet,
    calls_of_sheets,
    finish,
    preview_if_due,
)

MOST_CUT = 1 / 3  # of a picture; the crop may take that from one without a note


@dataclass(frozen=True)
class Progress:
    """One generation as a user wants to see it."""

    learner: Learner
    record: Record
    clip_score: Score | None  # of the preview made after this generation

    def __str__(self) -> str:
        """Where the run is: what, how far, how good, how fast, how long still."""
        record, learner = self.record, self.learner
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


@dataclass(frozen=True)
class Workers:
    """Who computes the losses: this process, ``count`` processes of this machine, or actors of Ray
    at an address ("local", "auto" or HOST:PORT), ``count`` of them or as many as it has room for.
    """

    count: int | None = None
    ray: str | None = None

    @contextmanager
    def started(self, recipe: Recipe) -> Iterator[Evaluator | None]:
        """The workers, until the block ends; None for this process."""
        device = recipe.spec.device
        if self.ray is not None:
            with closing(RayWorkers(recipe, self.ray, self.count, device)) as actors:
                yield actors
        elif self.count is not None:
            with closing(Processes(recipe, self.count, device)) as processes:
                yield processes
        else:
            yield None


ALONE = Workers()


@dataclass(frozen=True)
class LearnJob:
    """A run folder and the learner that continues it."""

    run: LearnRun
    learner: Learner

    def steps(self) -> Generator[Progress | Sheet]:
        """Learn, or go on learning; yields after every generation, and writes the report at last.

        The folder holds every finished generation at any time: an interrupted run loses at most
        the generation it was in.
        """
        run, learner = self.run, self.learner
        with held(run.path):
            learner.replay(run.records())
            if learner.generation >= 0:
                preview_if_due(run, learner)  # a crash may have come between record and preview
            while not learner.finished:
                record = learner.step()
                run.append(record)
                yield Progress(learner, record, preview_if_due(run, learner))
            yield from finish(run, learner)

    def finish(self, display: Display = SILENT) -> None:
        """Do all steps, and show them."""
        settings, records = self.run.settings, self.run.records()
        sheets = calls_of_sheets(self.learner)
        if display is not SILENT:
            expected = forecast(self.learner, records[-1].calls if records else 0)
            what = f"Learning {settings.placeholder!r} with at most {settings.calls:,} calls"
            more = f" and {sheets:,} for the report's pictures" if sheets else ""
            display.say(f"{what}{more}: {expected}.")
        score = ""
        first = display.bar("the first generation", settings.calls + sheets)
        with closing(self.steps()) as steps, first as bar:
            for step in steps:
                total = self.learner.total_calls
                if isinstance(step, Sheet):
                    done = total + sheets * step.number / step.total
                    bar.update(str(step), done, total + sheets)
                    continue
                finished = self.learner.finished
                if step.clip_score is not None:
                    score = f"  CLIP {step.clip_score.value:.3f}"
                text = f"{step}{score}"
                if step.clip_score is not None or finished:
                    bar.line(text)
                bar.update(text, step.record.calls, total + sheets)


def learn_into(
    folder: PathLike,
    images: PathLike | ImageSet,
    settings: LearnSettings,
    model: LatentModel | ModelSpec | str = "stickers",
    *,
    clip: str = "",
    workers: int | None = None,
    ray: str | None = None,
    with_progress: bool = False,
) -> LearnRun:
    """Learn a word and write everything to a new run folder, like ``evoken learn``.

    Args:
        folder: must not exist yet.
        images: an image, a folder of three to five images, or what ``load_images`` returned.
        settings: from ``preset``, or ``LearnSettings``.
        model: a name, a spec or a loaded model.
        clip: name of a CLIP model; by default the one that goes with the model.
        workers: how many processes share the work; with ``ray``, how many actors.
        ray: address of a Ray cluster: "local", "auto" or HOST:PORT.
        with_progress: show progress on stderr.

    Returns:
        The run: ``run.word()``, ``run.records()``, ``run.path / "report.html"``.

    Raises:
        EvokenError: an argument cannot be used; in this case nothing was written.
    """
    display = Display(Console(stderr=True)) if with_progress else SILENT
    with begun(folder, images, settings, model, clip, Workers(workers, ray), display) as job:
        job.finish(display)
    return job.run


def resume(
    folder: PathLike,
    *,
    workers: int | None = None,
    ray: str | None = None,
    with_progress: bool = False,
) -> LearnRun:
    """Continue an interrupted run. The result equals that of an uninterrupted run, bit for bit.
    Arguments and errors are those of ``learn_into``.
    """
    display = Display(Console(stderr=True)) if with_progress else SILENT
    with reopened(folder, Workers(workers, ray), display) as job:
        job.finish(display)
    return job.run


@contextmanager
def begun(
    folder: PathLike,
    images: PathLike | ImageSet,
    settings: LearnSettings,
    model: LatentModel | ModelSpec | str = "stickers",
    clip: str = "",
    workers: Workers = ALONE,
    display: Display = SILENT,
) -> Iterator[LearnJob]:
    """A new run folder and its learner; nothing is written before everything is checked.
    Arguments and errors as for ``learn_into``.
    """
    path = Path(folder)
    # Pictures come before the model, which takes long.
    _check_shown(images if isinstance(images, ImageSet) else load_images(images, CHECKED))
    check_new(path)
    loaded = started(model, display) if isinstance(model, ModelSpec | str) else model
    found = images if isinstance(images, ImageSet) else load_images(images, loaded.size)
    if found.folder:
        display.say(f"Taking the pictures from {shown(found.folder)}.")
    if found.ignored:
        display.say(f"Skipped {', '.join(map(shown, found.ignored))}: not images by their names.")
    if not 3 <= len(found.names) <= 5:
        display.say(f"Note: {counted(len(found.names))}; three to five work best.")
    for said in found.notes(MOST_CUT):
        display.say(said)
    _check_room(settings, loaded)
    note = sticker_note(loaded.spec.name, found.images, [min(size) for size in found.sizes])
    display.note(note)
    clip_name = clip or default_clip(loaded.spec.name)
    recipe = Recipe(settings, loaded.spec, clip_name, found.images.numpy())
    with workers.started(recipe) as evaluator:
        its_clip = _clip(settings, clip_name, loaded, display)
        learner = Learner(settings, loaded, found.images, its_clip, evaluator)
        run = LearnRun.create(path, settings, loaded.spec, clip_name, found, note)
        yield LearnJob(run, learner)


@contextmanager
def reopened(
    folder: PathLike, workers: Workers = ALONE, display: Display = SILENT
) -> Iterator[LearnJob]:
    """A run folder, and a fresh learner made of its settings and images."""
    run = LearnRun.open(folder)
    model = started(run.spec, display)
    run.check_weights()  # once the model is there: the hub's may have had to be fetched anew
    found = run.images(model.size)
    recipe = Recipe(run.settings, model.spec, run.clip, found.numpy())
    with workers.started(recipe) as evaluator:
        clip = _clip(run.settings, run.clip, model, display)
        yield LearnJob(run, Learner(run.settings, model, found, clip, evaluator))


def _check_room(settings: LearnSettings, model: LatentModel) -> None:
    """Raise ``WordError`` if the word has more vectors than its longest sentence has room for."""
    templates = KINDS[settings.kind].templates
    longest = max(templates, key=lambda text: model.count_tokens(text.partition("{}")[0]))
    word = torch.zeros(1, settings.vectors, model.width)
    model.condition([longest.format(settings.placeholder)], {settings.placeholder: word})


def _check_shown(found: ImageSet) -> None:
    """Raise ``ImageError`` if there is nothing to see in one of the pictures."""
    if found.blank:
        raise ImageError(
            f"there is one colour and nothing else in {listing(found.blank, 'and')}.",
            "Use other pictures: nothing can be learned from one colour.",
        )


def _clip(settings: LearnSettings, name: str, model: LatentModel, display: Display) -> Clip | None:
    """The run's CLIP model, which has read the vocabulary where the start needs that."""
    compares = settings.initialization in ("attention", "nearest")
    needed = compares or settings.objective == "similarity"
    clip = clip_if_any(name, needed, model.spec.device, display)
    if clip and compares:
        _read_vocabulary(clip, model, settings.kind, display)
    return clip


def _read_vocabulary(clip: Clip, model: LatentModel, kind: str, display: Display) -> None:
    """Read the model's vocabulary with CLIP, and show how far that is where it takes long."""
    words, what = model.vocabulary().words, "reading the vocabulary with CLIP"
    reading = read(clip, KINDS[kind].sentences(words))
    if (first := next(reading, None)) is None:
        return
    display.say(f"CLIP reads {len(words):,} words, once for all that are learned.")
    with display.bar(what, len(words)) as bar:
        bar.update(what, first)
        for done in reading:
            bar.update(what, done)
