"""Learning a word into a run folder: from Python, and what ``evoken learn`` does."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from evoken.arrays import PathLike
from evoken.errors import RunError, SettingError, one_line, shown
from evoken.evaluation.evaluator import Evaluator
from evoken.evaluation.processes import Processes
from evoken.evaluation.ray_cluster import RayWorkers
from evoken.images import ImageSet, counted
from evoken.models.clip import Clip
from evoken.models.distilled import check_learnable
from evoken.models.embedded import sticker_note
from evoken.models.families.latent import LatentModel
from evoken.models.load import clip_if_any, default_clip, started
from evoken.options import in_range, known_names, make, whole
from evoken.pictures.metrics import Score
from evoken.pictures.shown import NAME
from evoken.progress import SILENT, Display
from evoken.prompts import KINDS
from evoken.run_folder import check_new, held, said_of_versions
from evoken.spec import ModelSpec
from evoken.textual_inversion.budget import BUDGETS, check_calls, check_left, to_learn_on
from evoken.textual_inversion.checks import (
    check_asked,
    check_images,
    check_memory,
    check_room,
    pictures_of,
    said_of_annotations,
)
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.forecast import Forecast, forecast
from evoken.textual_inversion.initialization import as_start, read_start
from evoken.textual_inversion.learn import Learner, Record, seconds_left
from evoken.textual_inversion.reading import read
from evoken.textual_inversion.recipe import Recipe
from evoken.textual_inversion.settings import INITIALIZATIONS, LearnSettings
from evoken.textual_inversion.workflow import (
    Sheet,
    calls_of_no_word,
    calls_of_previews,
    calls_of_sheets,
    loss_of_no_word,
    preview_if_due,
    write_result,
)
from evoken.words.word import Word

MOST_WORKERS = 10_000  # of a cluster
MOST_CUT = 1 / 3  # of a picture; the crop may take that from one without a note


@dataclass(frozen=True)
class Progress:
    """One generation as a user wants to see it."""

    learner: Learner
    record: Record
    score: Score | None  # of the preview made after this generation, if there is one
    nothing: float | None = None  # the loss of no word at all

    def __str__(self) -> str:
        """Where the run is: what, how far, how good, how fast, how long still."""
        record, learner = self.record, self.learner
        speed = record.calls / max(record.seconds, 1e-9)
        total = learner.total_calls
        left = seconds_left(record, total, learner.settings.minutes)
        nothing = "" if self.nothing is None else f" (no word {self.nothing:.4f})"
        return (
            f"generation {record.generation} of {learner.generations}  "
            f"{record.calls:,} of {total:,} calls  "
            f"best loss {learner.best_validation:.4f}{nothing}  "
            f"sigma {record.sigma:.3f}  {speed:.0f} calls/s  {left:.0f} s left"
        )


@dataclass(frozen=True)
class Workers:
    """Who computes the losses: this process, ``count`` processes of this machine, or actors of Ray
    at an address ("local", "auto" or HOST:PORT), ``count`` of them or as many as it has room for.
    """

    count: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.count is not None:
            whole("workers", self.count)
            in_range("workers", self.count, 1, MOST_WORKERS)

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

    def steps(self, more: bool = True) -> Generator[Progress | Sheet]:
        """Learn, or go on learning; yields after every generation, and writes the report at last.

        The folder holds every finished generation at any time: an interrupted run loses at most
        the generation it was in.

        Args:
            more: whether to learn until a budget is used up; otherwise the run ends here.

        Raises:
            RunError: the run is to end before its first generation.
        """
        run, learner = self.run, self.learner
        with held(run.path):
            self.catch_up()
            nothing = loss_of_no_word(run, learner)
            if learner.generation >= 0:
                preview_if_due(run, learner)  # a crash may have come between record and preview
            while more and not learner.finished:
                record = learner.step()
                run.append(record)
                if nothing is None:
                    nothing = run.loss_of_no_word()
                yield Progress(learner, record, preview_if_due(run, learner), nothing)
            check_begun(run)
            preview_if_due(run, learner, last=True)
            yield from write_result(run, learner)

    def catch_up(self) -> None:
        """Bring the learner to where the folder's records end."""
        self.learner.replay(self.run.records()[self.learner.generation + 1 :])

    def finish(self, display: Display = SILENT, more: bool = True) -> None:
        """Do all steps, and show them. Arguments are those of ``steps``."""
        settings, records = self.run.settings, self.run.records()
        before = calls_of_no_word(self.learner, self.run.loss_of_no_word() is not None)
        after = calls_of_sheets(self.learner)
        self.catch_up()
        looks = calls_of_previews(self.learner, self.learner.generations)
        if more and self.learner.finished:
            display.say(
                f"Nothing is left to learn for {settings.placeholder}. To learn on after all, "
                f"type: {to_learn_on(self.run.path, self.learner)}"
            )
        elif more and display is not SILENT:
            expected = forecast(self.learner, records[-1].calls if records else 0)
            what = f"Learning {settings.placeholder!r} with at most {settings.calls:,} calls"
            what += f", and {before + looks + after:,} for previews and the report"
            display.say(f"{what}: {expected}.")
        score = ""
        first = display.bar("the first generation", before + settings.calls + after)
        with closing(self.steps(more)) as steps, first as bar:
            for step in steps:
                total = before + self.learner.total_calls
                if isinstance(step, Sheet):
                    done = total + after * step.number / step.total
                    bar.update(str(step), done, total + after)
                    continue
                finished = self.learner.finished
                if step.score is not None:
                    score = f"  {NAME} {step.score.value:.3f}"
                text = f"{step}{score}"
                if step.score is not None or finished:
                    bar.line(text)
                bar.update(text, before + step.record.calls, total + after)


def learn_into(
    output: PathLike,
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
        output: the run folder, which must not exist yet.
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
    with begun(output, images, settings, model, clip, Workers(workers, ray), display) as job:
        job.finish(display)
    return job.run


def resume(
    folder: PathLike,
    *,
    workers: int | None = None,
    ray: str | None = None,
    with_progress: bool = False,
    **budget: Any,
) -> LearnRun:
    """Continue the learning of a word; see ``evoken.resume``."""
    display = Display(Console(stderr=True)) if with_progress else SILENT
    with reopened(folder, Workers(workers, ray), display, budget) as job:
        job.finish(display)
    return job.run


def finish(folder: PathLike, *, with_progress: bool = False) -> LearnRun:
    """End an interrupted run where it is, with its best word so far and a report. It can still be
    continued.

    Raises:
        RunError: it is no run folder, or not one generation is done.
    """
    display = Display(Console(stderr=True)) if with_progress else SILENT
    check_begun(LearnRun.open(folder))
    with reopened(folder, display=display) as job:
        job.finish(display, more=False)
    return job.run


def pick(folder: PathLike, number: int) -> Path:
    """Write the word as it was after generation ``number`` of a run, which is what that preview
    shows; returns the file.

    Raises:
        RunError: it is no run folder, or not one generation is done.
        SettingError: there is no such generation.
    """
    run = LearnRun.open(folder)
    check_begun(run)
    if not 0 <= number < (done := len(run.records())):
        raise SettingError(
            f"`number` must be from 0 to {done - 1} (got {number}).",
            "Choose one in report.html, or among the pictures in previews.",
        )
    with reopened(folder) as job:
        learner = job.learner
        learner.replay(run.records()[learner.generation + 1 : number + 1])
        path = run.picked_path(number)
        run.save_word(learner, path)
    return path


def check_begun(run: LearnRun) -> None:
    """Raise ``RunError`` unless there is a word, that of the start at least."""
    if not run.records():
        raise RunError(
            f"{shown(run.path)} has no word yet: its first generation is not done.",
            f"Type: evoken learn --resume {quote(str(run.path))}",
        )


@dataclass(frozen=True)
class Prepared:
    """A learner, and what its run folder is made of."""

    learner: Learner
    images: ImageSet
    clip: str
    note: str
    start: Word | None


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
    with _prepared(path, images, settings, model, clip, workers, display) as its:
        learner = its.learner
        run = LearnRun.create(
            path, settings, learner.model, its.clip, its.images, its.note, its.start
        )
        yield LearnJob(run, learner)


def foreseen(
    folder: PathLike,
    images: PathLike | ImageSet,
    settings: LearnSettings,
    model: LatentModel | ModelSpec | str = "stickers",
    clip: str = "",
    workers: Workers = ALONE,
    display: Display = SILENT,
) -> Forecast:
    """What a run would take, after everything is checked that ``begun`` checks: nothing is written.
    Arguments and errors as for ``learn_into``.
    """
    with _prepared(Path(folder), images, settings, model, clip, workers, display) as its:
        return forecast(its.learner)


@contextmanager
def _prepared(
    folder: Path,
    images: PathLike | ImageSet,
    settings: LearnSettings,
    model: LatentModel | ModelSpec | str,
    clip: str,
    workers: Workers,
    display: Display,
) -> Iterator[Prepared]:
    """What a run begins with, once everything is checked; says what people should know of it."""
    check_asked(images, settings, model, clip)
    check_new(folder)
    start = read_start(settings)
    if isinstance(model, ModelSpec | str):
        loaded = started(model, display, learning=True)
    else:
        loaded = model
        check_learnable(loaded.learned_on, loaded.spec.name)
    if start:
        start = as_start(start, loaded, settings.vectors)
        name, place = one_line(start.placeholder), shown(Path(settings.start))
        display.say(f"Starting from the word {name} in {place}.")
    found = pictures_of(images, loaded.size, settings)
    check_images(found.images, loaded.size)
    for said in found.notes(MOST_CUT):
        display.say(said)
    if not 3 <= len(found.names) <= 5:
        display.say(f"Note: {counted(len(found.names))}; three to five work best.")
    for said in said_of_annotations(found, settings):
        display.note(said)
    check_room(settings, loaded, found)
    check_memory(settings, loaded)
    note = sticker_note(loaded.spec.name, found.images, [min(size) for size in found.sizes])
    display.note(note)
    clip_name = clip or default_clip(loaded.spec.name)
    annotations = found.annotations
    recipe = Recipe.of(settings, loaded.spec, clip_name, found.images, annotations)
    with workers.started(recipe) as evaluator:
        its_clip = _clip(settings, clip_name, loaded, display)
        learner = Learner(
            settings, loaded, found.images, its_clip, evaluator, 0, annotations, start
        )
        yield Prepared(learner, found, clip_name, note, start)


@contextmanager
def reopened(
    folder: PathLike,
    workers: Workers = ALONE,
    display: Display = SILENT,
    budget: Mapping[str, Any] = {},
    model: LatentModel | None = None,
    replays: bool = True,
) -> Iterator[LearnJob]:
    """A run folder, and a fresh learner made of its settings and images.

    Args:
        budget: ``calls``, ``minutes`` and ``patience`` of the whole run from now on, also of one
            that has ended.
        model: that of the run, if it is loaded already.
        replays: whether the learner is to be told the records of its search.

    Raises:
        EvokenError: the run is damaged or was changed, or began with another revision of its
            search whose records are to be replayed.
    """
    run = LearnRun.open(folder)
    if replays:
        run.check_search()
    settings, start = run.settings, run.start()
    if budget:
        known_names(budget, BUDGETS)
        settings = make(LearnSettings, settings.to_dict() | budget)
        check_calls(run, settings.calls, "calls" in budget)
    if model is None or model.spec != run.spec:
        model = started(run.spec, display)
    run.check_unchanged()  # once the model is there: the hub's may have had to be fetched anew
    display.note(said_of_versions(run.config))
    found, annotations = run.images(model.size), run.annotations()
    recipe = Recipe.of(settings, model.spec, run.clip, found, annotations)
    with workers.started(recipe) as evaluator:
        clip = _clip(settings, run.clip, model, display)
        learner = Learner(
            settings, model, found, clip, evaluator, run.planned_calls, annotations, start
        )
        job = LearnJob(run, learner)
        if budget:
            _extend(job)
        yield job


def _extend(job: LearnJob) -> None:
    """Write the learner's budget into the folder; errors are those of ``check_left``."""
    with held(job.run.path):
        job.catch_up()
        check_left(job.learner)
        job.run.extend(job.learner.settings)


def _clip(settings: LearnSettings, name: str, model: LatentModel, display: Display) -> Clip | None:
    """The run's CLIP model, which has read the vocabulary where the start needs that."""
    compares = INITIALIZATIONS[settings.initialization]
    needed = compares or settings.objective == "similarity"
    clip = clip_if_any(name, needed, model.spec, display)
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
