"""Inverting and editing into a run folder: from Python, and what the commands do."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from evoken.arrays import PathLike
from evoken.dialects import notes, warn_of
from evoken.errors import SettingError, shown
from evoken.flowopt.compare import measures
from evoken.flowopt.edit import Iterate, Task, check_prompts, iterates
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.report import write_report
from evoken.flowopt.saved_info import write_saved_info
from evoken.flowopt.settings import FlowOptSettings, flowopt_preset
from evoken.flowopt.tasks import Edits, read_edits
from evoken.images import CHECKED, ImageSet, counted, listing, load_images
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.models.embedded import sticker_note
from evoken.models.families.latent import LatentModel
from evoken.models.load import clip_if_any, default_clip, started
from evoken.progress import SILENT, Display
from evoken.run_folder import check_new, held, said_of_versions
from evoken.spec import ModelSpec, fitting
from evoken.words.word import Word, as_words, fitted

DEFAULT_MODEL = "stickers-flow"


@dataclass(frozen=True)
class Request:
    """What is asked for, before anything is loaded.

    Attributes:
        pictures: a picture, a folder of them, or a YAML of pictures and prompts.
        source: what they show.
        target: what they should show; None to invert them.
        word: a learned word in the prompts.
        saved_info: whether the pictures are written as the official script does it, too.
        edits: what the YAML asks for, once it is read.
    """

    pictures: PathLike
    source: str = ""
    target: str | None = None
    words: tuple[Word, ...] = ()
    saved_info: bool = False
    edits: Edits | None = None

    @property
    def command(self) -> str:
        """What is done: "invert" or "edit"."""
        return "invert" if self.target is None else "edit"

    def experiments(self) -> "list[Request]":
        """A request for each experiment that the YAML describes, or else this one.

        Raises:
            SettingError: the YAML cannot be read, or an edit has no target.
        """
        path = Path(self.pictures)
        if path.suffix.lower() in (".yaml", ".yml"):
            if said := self.source or self.target:
                raise SettingError(
                    f"the prompts are in {shown(path)}, but {shown(said)} came as well.",
                    f"Leave out {'`prompt`' if self.target is None else '`source` and `target`'}.",
                )
            found = read_edits(path, invert=self.target is None)
            return [replace(self, edits=edits) for edits in found]
        if self.target == "":
            raise SettingError("there is no `target`: what the picture should show.", "Give one.")
        return [self]

    def settings(self, preset: str, changes: Mapping[str, Any]) -> FlowOptSettings:
        """Those of a preset, of the YAML, and of the changes; what comes later wins."""
        return flowopt_preset(preset, **{**(self.edits.settings if self.edits else {}), **changes})

    def folders(self) -> dict[str, str] | None:
        """What the official script calls its folders after, where they are wanted.

        Raises:
            SettingError: they are wanted, and nothing says what they are.
        """
        if not self.saved_info:
            return None
        experiment = self.edits and self.edits.experiment
        if not (experiment and experiment.name and experiment.family):
            raise SettingError(
                "`saved_info` needs a YAML with exp_name and model_type, after which the folders "
                f"are called ({shown(self.pictures)} has none).",
                "Add them, or leave it out.",
            )
        return {"exp_name": experiment.name, "model_type": experiment.family}

    def load(self, size: int) -> tuple[Task, ImageSet]:
        """Read the pictures; one prompt serves all of them."""
        if self.edits:
            return self.edits.load(size)
        images = load_images(self.pictures, size, masks=False, captions=False)
        count = len(images.names)
        targets = (self.target,) * count if self.target else ()
        return Task(images.images, (self.source,) * count, targets), images


@dataclass(frozen=True)
class FlowOptJob:
    """A run folder and the models that continue it."""

    run: FlowOptRun
    model: Model
    clip: Clip | None

    def steps(self) -> Generator[Iterate]:
        """Do, or go on with, what the folder's config asks for; yields every new iterate, and
        writes the report at last.

        The folder holds every finished iterate at any time: an interrupted run loses at most the
        one it was in.
        """
        run, model = self.run, self.model
        with held(run.path):
            task, earlier = run.task(model.size), run.earlier()
            for iterate in iterates(task, model, run.settings, self.clip, earlier):
                if iterate.step.iteration >= len(earlier):
                    run.save(iterate)
                    yield iterate
                elif iterate.step.iteration == len(earlier) - 1:
                    run.save_noise(iterate)  # nothing says whether it is as it was written
            rebuilt = model.decode(model.encode(task.images))
            rmse, psnr, ssim = (values.tolist() for values in measures(task.images, rebuilt))
            write_report(run, {"rmse": rmse, "psnr": psnr, "ssim": ssim})
            write_saved_info(run)

    def finish(self, display: Display = SILENT) -> None:
        """Do all steps, and show them."""
        settings, pictures = self.run.settings, len(self.run.config["pictures"])
        updates = "1 update" if settings.iterations == 1 else f"{settings.iterations} updates"
        display.say(f"{counted(pictures)}, {updates}.")
        records = self.run.records()
        before, calls = time.monotonic(), records[-1]["calls"] if records else 0
        with (
            closing(self.steps()) as steps,
            display.bar("the start", settings.iterations + 1) as bar,
        ):
            for iterate in steps:
                number, now = iterate.step.iteration, time.monotonic()
                # By calls: the start takes others than an iterate does.
                each = (now - before) / (iterate.step.calls - calls) * self._calls_each
                left, before = each * (settings.iterations - number), now
                calls = iterate.step.calls
                text = f"{described(iterate, pictures)}  {left:.0f} s left"
                bar.line(text)
                bar.update(text, number + 1)

    @property
    def _calls_each(self) -> int:
        """Of the denoiser, for an iterate of all pictures."""
        settings, pictures = self.run.settings, len(self.run.config["pictures"])
        a_step = 1 if settings.guidance == 1 else self.model.guidance_calls
        return pictures * (settings.last or settings.steps) * a_step


def described(iterate: Iterate, pictures: int) -> str:
    """Where an inversion or an edit is, means over pictures."""
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


def edit_into(
    folder: PathLike,
    pictures: PathLike,
    source: str = "",
    target: str = "",
    model: LatentModel | ModelSpec | str = "",
    *,
    word: Word | Sequence[Word] | None = None,
    preset: str = "edit",
    clip: str = "",
    with_progress: bool = False,
    **changes: Any,
) -> FlowOptRun:
    """Edit pictures and write everything to a new run folder, like ``evoken edit``.

    Args:
        folder: must not exist yet.
        pictures: a picture, a folder of pictures, or a YAML of pictures and prompts.
        source: what the pictures show.
        target: what they should show.
        model: a name, a spec or a loaded model; by default the one that the YAML names, or
            "stickers-flow".
        word: a learned word in the prompts.
        preset: where all settings come from that ``changes`` does not name.
        clip: name of a CLIP model; by default the one that goes with the model.
        with_progress: show progress on stderr.
        changes: fields of ``FlowOptSettings``.

    Returns:
        The run: ``run.pick()`` copies the suggested iterate of every picture.

    Raises:
        EvokenError: an argument cannot be used; in this case nothing was written.
    """
    return _into(
        folder,
        Request(pictures, source, target, as_words(word)),
        model,
        preset,
        changes,
        clip,
        with_progress,
    )


def invert_into(
    folder: PathLike,
    pictures: PathLike,
    prompt: str = "",
    model: LatentModel | ModelSpec | str = "",
    *,
    word: Word | Sequence[Word] | None = None,
    preset: str = "invert",
    with_progress: bool = False,
    **changes: Any,
) -> FlowOptRun:
    """Find the noise that a model makes pictures from, and write everything to a new run folder,
    like ``evoken invert``.

    Args:
        prompt: what the pictures show.

    The other arguments and the errors are those of ``edit_into``.
    """
    asked = Request(pictures, prompt, None, as_words(word))
    return _into(folder, asked, model, preset, changes, "", with_progress)


def _into(
    folder: PathLike,
    asked: Request,
    model: LatentModel | ModelSpec | str,
    preset: str,
    changes: Mapping[str, Any],
    clip: str,
    with_progress: bool,
) -> FlowOptRun:
    display = Display(Console(stderr=True)) if with_progress else SILENT
    job = begun(folder, asked, model, preset, changes, clip, display)
    if not with_progress:  # which shows the same as notes
        warn_of((*job.run.config["sources"], *job.run.config["targets"]), asked.words, 4)
    job.finish(display)
    return job.run


def begun(
    folder: PathLike,
    asked: Request,
    model: LatentModel | ModelSpec | str,
    preset: str,
    changes: Mapping[str, Any],
    clip: str = "",
    display: Display = SILENT,
) -> FlowOptJob:
    """A new run folder and its models; see ``begun_all``.

    Raises:
        SettingError: the YAML describes several experiments.
    """
    each = asked.experiments()
    if len(each) > 1:
        raise SettingError(
            f"{shown(asked.pictures)} describes {len(each)} experiments, where one is possible.",
            f"Type: evoken {asked.command} {shown(asked.pictures)}",
        )
    return begun_all(folder, each, model, preset, changes, clip, display)[0]


def begun_all(
    folder: PathLike,
    each: Sequence[Request],
    model: LatentModel | ModelSpec | str,
    preset: str,
    changes: Mapping[str, Any],
    clip: str = "",
    display: Display = SILENT,
) -> list[FlowOptJob]:
    """New run folders and their models; nothing is written before everything is checked.

    Args:
        folder: of the run; where there are several, each has a folder in it.
        each: what ``Request.experiments`` gave.
        model: a spec's or a name that is "" means the YAML's, or the embedded flow model.
    """
    asked = each[0]
    if asked.edits and asked.edits.others:
        other, count = "edit" if asked.command == "invert" else "invert", asked.edits.others
        left = "1 experiment is" if count == 1 else f"{count} experiments are"
        display.say(f"{left} left out here, for: evoken {other} {shown(asked.pictures)}")
    folders = folders_for(Path(folder), each)
    for place, asked in zip(folders, each, strict=True):
        # Before the model, which takes long.
        asked.settings(preset, changes)
        asked.load(CHECKED)
        check_new(place)
        asked.folders()
    if isinstance(model, ModelSpec | str):
        model = started(_named(model, each[0].edits), display)
    ready = [
        _checked(place, asked, model, asked.settings(preset, changes), clip, display)
        for place, asked in zip(folders, each, strict=True)
    ]
    return [begin() for begin in ready]


def folders_for(folder: Path, each: Sequence[Request]) -> list[Path]:
    """Where the runs of experiments go: each into a folder of its name, if there are several."""
    if len(each) == 1:
        return [folder]
    found, seen = [], Counter[str]()
    for i, asked in enumerate(each):
        experiment = asked.edits and asked.edits.experiment
        name = (experiment and experiment.name) or f"experiment-{i + 1}"
        seen[name] += 1
        found.append(folder / (f"{name}-{seen[name]}" if seen[name] > 1 else name))
    return found


def _checked(
    folder: Path,
    asked: Request,
    model: LatentModel,
    settings: FlowOptSettings,
    clip: str,
    display: Display,
) -> Callable[[], FlowOptJob]:
    """What begins the run, once everything about it is checked."""
    task, images = asked.load(model.size)
    if images.folder:
        display.say(f"Taking the pictures from {shown(images.folder)}.")
    if images.blank:
        names = listing(dict.fromkeys(images.blank), "and")
        display.say(f"Note: there is one colour and nothing else in {names}.")
    for note in images.notes():
        display.say(note)
    task = replace(task, words=tuple(fitted(word, model) for word in asked.words))
    check_prompts(model, task)
    for text in notes((*task.sources, *task.targets), [w.placeholder for w in task.words]):
        display.note(text)
    note = sticker_note(model.spec.name, task.images, [min(size) for size in images.sizes])
    display.note(note)
    name = clip or default_clip(model.spec.name)
    its_clip = clip_if_any(name, False, model.spec.device, display) if task.targets else None

    def begin() -> FlowOptJob:
        official = asked.folders()
        run = FlowOptRun.create(folder, task, settings, model.spec, name, images, note, official)
        return FlowOptJob(run, model, its_clip)

    return begin


def _named(model: ModelSpec | str, edits: Edits | None) -> ModelSpec:
    """The spec with a name."""
    spec = fitting(model) if isinstance(model, str) else model
    return spec if spec.name else replace(spec, name=(edits and edits.model) or DEFAULT_MODEL)


def reopened(folder: PathLike, display: Display = SILENT) -> FlowOptJob:
    """A run folder, and the models that continue it."""
    run = FlowOptRun.open(folder)
    has_targets, device = bool(run.config["targets"]), run.spec.device
    clip = clip_if_any(run.config["clip"], False, device, display) if has_targets else None
    model = started(run.spec, display)
    run.check_unchanged()  # once the model is there: the hub's may have had to be fetched anew
    display.note(said_of_versions(run.config))
    return FlowOptJob(run, model, clip)
