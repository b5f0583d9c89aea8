"""Several words, one after the other: everything is checked first, and the model is loaded once."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from PIL import Image
from rich.console import Console

from evoken.arrays import PathLike
from evoken.errors import EvokenError, RunError, SettingError, one_line, shown
from evoken.images import name_of_pictures
from evoken.models.families.latent import LatentModel
from evoken.models.load import default_clip, started
from evoken.progress import SILENT, Display
from evoken.run_folder import as_written, check_new, is_run_folder, state_of
from evoken.runtimes import AUTO
from evoken.spec import ModelSpec, fitting
from evoken.textual_inversion.budget import BUDGETS
from evoken.textual_inversion.checks import check_asked, check_room, pictures_of
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.job import ALONE, LearnJob, Workers, begun, reopened
from evoken.textual_inversion.learn import check_placeholder
from evoken.textual_inversion.settings import LearnSettings


@dataclass(frozen=True)
class Queued:
    """A word that is to be learned.

    Attributes:
        source: the folder of its images.
        folder: its run folder.
        state: "new", or of a run of an earlier call, "interrupted" or "finished".
    """

    source: Path
    folder: Path
    settings: LearnSettings
    state: str


@dataclass(frozen=True)
class Outcome:
    """What became of a queued word: its run, or why there is none."""

    queued: Queued
    run: LearnRun | None = None
    error: EvokenError | None = None


def concept_of(source: Path) -> str:
    """The name of a concept, made of that of its folder or picture."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name_of_pictures(source)).strip("-.") or "word"


def queue(
    sources: Sequence[PathLike],
    parent: PathLike,
    settings_of: Callable[[str], LearnSettings],
    model: ModelSpec,
    clip: str = "",
) -> list[Queued]:
    """What is to be done for several folders of images; nothing is loaded and nothing written.

    Args:
        parent: the folder that run folders are in or will be.
        settings_of: the settings for a placeholder, which is made of each folder's name.

    Raises:
        EvokenError: a folder cannot be used, two would have one run folder, or a run folder is
            there that is not of these pictures, settings and model.
    """
    found: dict[Path, Queued] = {}
    for source in map(Path, sources):
        if source.is_file():
            raise SettingError(
                f"several words are learned from folders ({shown(source)} is a file).",
                "Leave it out, or put the pictures of one thing into a folder.",
            )
        name = concept_of(source)
        folder, settings = Path(parent) / name, settings_of(f"<{name}>")
        if other := found.get(folder):
            raise SettingError(
                f"{shown(other.source)} and {shown(source)} would both be {shown(folder)}.",
                "Rename one of them, or learn them one by one with `output`.",
            )
        check_asked(source, settings, model, clip)
        state = _state(folder, source, settings, model, clip)
        found[folder] = Queued(source, folder, settings, state)
    return list(found.values())


def _state(folder: Path, source: Path, settings: LearnSettings, model: ModelSpec, clip: str) -> str:
    """How far a run folder is; raises ``RunError`` if something else is there."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        check_new(folder)
        return "new"
    if not is_run_folder(folder):
        raise _taken(folder, " and is no run")
    run = LearnRun.open(folder)
    other = _other_settings(run, settings)
    if not _same_pictures(run, source, settings):
        other.append("pictures, masks or captions")
    other += _other_model(model, run.spec)
    if run.clip != (clip or default_clip(model.name)):
        other.append("CLIP model")
    if other:
        raise _taken(folder, f", and its run has other {', '.join(other[:4])}")
    if (state := state_of(folder, run.finished)) == "running":
        raise RunError(f"another process is working on {shown(folder)}.", "Wait for it, or end it.")
    return state


def _taken(folder: Path, why: str) -> RunError:
    """The error for a run folder's place where there is something else."""
    return RunError(
        f"{shown(folder)} already exists{why}.",
        "Choose another folder with `output`, or move it away.",
    )


def _other_settings(run: LearnRun, settings: LearnSettings) -> list[str]:
    """Names of the settings that a run has others for. The budget of one that was extended is what
    it was begun with.
    """
    had, wanted = run.settings.to_dict(), settings.to_dict()
    if run.extended:
        had |= {"calls": run.planned_calls} | {k: wanted[k] for k in BUDGETS if k != "calls"}
    return [f"`{name}`" for name in wanted if had[name] != wanted[name]]


def _same_pictures(run: LearnRun, source: Path, settings: LearnSettings) -> bool:
    """Whether a run was begun with these pictures, masks and captions, as its model saw them."""
    with as_written(run.inputs[0]), Image.open(run.inputs[0]) as first:
        side = first.width
    return run.began_with(pictures_of(source, side, settings))


def _other_model(asked: ModelSpec, used: ModelSpec) -> list[str]:
    """Names of what a run's model has others for, as far as that can be told before it is loaded:
    what is chosen then fits any. The batch changes no result.
    """
    open_ones = {"device": AUTO, "precision": AUTO, "encoders": "", "batch": asked.batch}
    pairs = {f.name: (getattr(asked, f.name), getattr(used, f.name)) for f in fields(ModelSpec)}
    return [
        f"`{name}`"
        for name, (wanted, found) in pairs.items()
        if wanted != found and wanted != open_ones.get(name)
    ]


def outcomes(
    queued: Sequence[Queued],
    model: LatentModel | ModelSpec,
    clip: str = "",
    workers: Workers = ALONE,
    display: Display = SILENT,
) -> Iterator[Outcome]:
    """Learn what is not learned yet; yields after every word. One that fails stops no other.

    Raises:
        EvokenError: the model cannot be had, or a word cannot be learned on it; in this case
            nothing was written.
    """
    waiting = [one for one in queued if one.state != "finished"]
    loaded = (
        started(model, display, learning=True)
        if waiting and isinstance(model, ModelSpec)
        else model
    )
    if not isinstance(loaded, ModelSpec):
        for one in waiting:
            check_placeholder(one.settings.placeholder, loaded)
            check_room(one.settings, loaded, pictures_of(one.source, loaded.size, one.settings))
            _check_model(one, loaded)
    for i, one in enumerate(queued, 1):
        place = f"{i} of {len(queued)}: {one.settings.placeholder}"
        if isinstance(loaded, ModelSpec) or one.state == "finished":
            display.say(f"{place} is learned already, in {shown(one.folder)}.")
            yield Outcome(one, LearnRun.open(one.folder))
            continue
        display.say(place)
        try:
            with _job(one, loaded, clip, workers, display) as job:
                job.finish(display)
        except SettingError:
            raise  # it would be the same for all
        except EvokenError as error:
            display.note(f"{place} was not learned: {error}")
            yield Outcome(one, error=error)
        else:
            yield Outcome(one, job.run)


def _check_model(one: Queued, model: LatentModel) -> None:
    """Raise ``RunError`` if a run that is to go on was begun on a model of another spec."""
    if one.state == "interrupted":
        used = LearnRun.open(one.folder).spec
        if replace(used, batch=0) != replace(model.spec, batch=0):
            names = ", ".join(_other_model(model.spec, used))
            raise _taken(one.folder, f", and its run has other {names}")


def _job(
    one: Queued, model: LatentModel, clip: str, workers: Workers, display: Display
) -> AbstractContextManager[LearnJob]:
    if one.state == "interrupted":
        return reopened(one.folder, workers, display, model=model)
    return begun(one.folder, one.source, one.settings, model, clip, workers, display)


def learn_all(
    folders: Sequence[PathLike],
    settings: LearnSettings,
    model: LatentModel | ModelSpec | str = "stickers",
    *,
    output: PathLike = "runs",
    clip: str = "",
    workers: int | None = None,
    ray: str | None = None,
    with_progress: bool = False,
) -> list[LearnRun]:
    """Learn a word from each of several folders, like ``evoken learn`` with several. The model is
    loaded once. What an earlier call has learned stays, and what it has begun goes on.

    Args:
        folders: of three to five images each; their names become the words.
        settings: from ``preset``, or ``LearnSettings``; the placeholder is each folder's name.
        output: the folder that the run folders are put into.

    The other arguments are those of ``learn_into``.

    Raises:
        EvokenError: an argument cannot be used; in this case nothing was written. Or at last, one
            of the words could not be learned.
    """
    display = Display(Console(stderr=True)) if with_progress else SILENT
    wanted = fitting(model) if isinstance(model, str) else model
    spec = wanted if isinstance(wanted, ModelSpec) else wanted.spec
    queued = queue(folders, output, lambda name: replace(settings, placeholder=name), spec, clip)
    done = list(outcomes(queued, wanted, clip, Workers(workers, ray), display))
    check_all_learned(done)
    return [one.run for one in done if one.run]


def check_all_learned(done: Sequence[Outcome]) -> None:
    """Raise ``RunError`` if some words could not be learned, with the first reason."""
    failed = [(one.queued.settings.placeholder, one.error) for one in done if one.error]
    if failed:
        names, (_, first) = " and ".join(name for name, _ in failed), failed[0]
        raise RunError(
            f"not all words were learned: {names} failed ({one_line(first.problem)}).",
            first.fix,
        )
