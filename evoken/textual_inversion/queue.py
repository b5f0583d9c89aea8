"""Several words, one after the other: everything is checked first, and the model is loaded once."""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from rich.console import Console

from evoken.arrays import PathLike
from evoken.errors import EvokenError, RunError, SettingError, one_line, shown
from evoken.images import CHECKED, name_of_pictures
from evoken.models.families.latent import LatentModel
from evoken.models.load import default_clip, started
from evoken.progress import SILENT, Display
from evoken.run_folder import is_run_folder
from evoken.runtimes import AUTO
from evoken.spec import ModelSpec, fitting
from evoken.textual_inversion.checks import check_room, check_shown, pictures_of
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.initialization import read_start
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
    job: LearnJob | None = None  # None too where the run was finished already
    error: EvokenError | None = None


def concept_of(source: Path) -> str:
    """The name of a concept, made of that of its folder or picture."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name_of_pictures(source)).strip("-.") or "word"


def queue(
    sources: Sequence[PathLike],
    parent: PathLike,
    settings: LearnSettings,
    model: ModelSpec,
    clip: str = "",
) -> list[Queued]:
    """What is to be done for several folders of images; nothing is loaded and nothing written.

    Args:
        parent: the folder that run folders are in or will be.
        settings: of all; the placeholder is that of each folder's name.

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
        folder, its_own = Path(parent) / name, replace(settings, placeholder=f"<{name}>")
        if other := found.get(folder):
            raise SettingError(
                f"{shown(other.source)} and {shown(source)} would both be {shown(folder)}.",
                "Rename one of them, or learn them one by one with `output`.",
            )
        pictures = pictures_of(source, CHECKED, its_own)
        check_shown(pictures)
        read_start(its_own)
        state = _state(folder, its_own, model, clip, pictures.hashes)
        found[folder] = Queued(source, folder, its_own, state)
    return list(found.values())


def _state(
    folder: Path, settings: LearnSettings, model: ModelSpec, clip: str, hashes: Sequence[str]
) -> str:
    """How far a run folder is; raises ``RunError`` if something else is there."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return "new"
    fix = "Choose another folder with `output`, or move it away."
    if not is_run_folder(folder):
        raise RunError(f"{shown(folder)} already exists and is no run.", fix)
    run = LearnRun.open(folder)
    same = {
        "settings": run.settings == settings,
        "pictures": run.hashes == tuple(hashes),
        "model": _same_model(model, run.spec),
        "CLIP model": run.clip == (clip or default_clip(model.name)),
    }
    if other := [what for what, is_same in same.items() if not is_same]:
        raise RunError(f"{shown(folder)} already exists, with other {' and '.join(other)}.", fix)
    return "finished" if run.finished else "interrupted"


def _same_model(asked: ModelSpec, used: ModelSpec) -> bool:
    """Whether a run's model can be the one that is asked for; what is chosen later fits any."""
    pairs = ((getattr(asked, f.name), getattr(used, f.name)) for f in fields(ModelSpec))
    return all(wanted in (AUTO, "", 0, found) for wanted, found in pairs)


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
    loaded = started(model, display) if waiting and isinstance(model, ModelSpec) else model
    if not isinstance(loaded, ModelSpec):
        for one in waiting:
            check_placeholder(one.settings.placeholder, loaded)
            check_room(one.settings, loaded, pictures_of(one.source, loaded.size, one.settings))
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
        except EvokenError as error:
            display.note(f"{place} was not learned: {error}")
            yield Outcome(one, error=error)
        else:
            yield Outcome(one, job.run, job)


def _job(
    one: Queued, model: LatentModel, clip: str, workers: Workers, display: Display
) -> AbstractContextManager[LearnJob]:
    if one.state == "interrupted":
        return reopened(one.folder, workers, display, model=model)
    return begun(one.folder, one.source, one.settings, model, clip, workers, display)


def learn_all(
    folders: Sequence[PathLike],
    settings: LearnSettings,
    model: ModelSpec | str = "stickers",
    *,
    parent: PathLike = "runs",
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
        parent: the folder that the run folders are put into.

    The other arguments are those of ``learn_into``.

    Raises:
        EvokenError: an argument cannot be used; in this case nothing was written. Or at last, one
            of the words could not be learned.
    """
    display = Display(Console(stderr=True)) if with_progress else SILENT
    spec = fitting(model) if isinstance(model, str) else model
    queued = queue(folders, parent, settings, spec, clip)
    done = list(outcomes(queued, spec, clip, Workers(workers, ray), display))
    check_all_learned(done)
    return [one.run for one in done if one.run]


def check_all_learned(done: Sequence[Outcome]) -> None:
    """Raise ``RunError`` if some words could not be learned, with the first reason."""
    failed = [(one.queued.settings.placeholder, one.error) for one in done if one.error]
    if failed:
        names, (_, first) = " and ".join(name for name, _ in failed), failed[0]
        raise RunError(
            f"{len(failed)} of {len(done)} words were not learned: {names} "
            f"({one_line(first.problem)}).",
            first.fix,
        )
