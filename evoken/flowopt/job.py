"""Inverting and editing into a run folder: from Python, and what the commands do."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from evoken.arrays import PathLike
from evoken.dialects import notes, warn_of
from evoken.errors import SettingError, shown
from evoken.flowopt.begin import begin, may_change, notes_on, restore
from evoken.flowopt.compare import measures
from evoken.flowopt.edit import Editor, Iterate, check_everywhere, check_prompts
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.given import Given, load_framed
from evoken.flowopt.originals import MASKS
from evoken.flowopt.report import write_report
from evoken.flowopt.saved_info import write_saved_info
from evoken.flowopt.settings import (
    DEFAULTS,
    SINGLE,
    FlowOptSettings,
    check_inversion,
    flowopt_preset,
)
from evoken.flowopt.strength import Noise
from evoken.flowopt.tasks import Edits, read_edits
from evoken.images import CHECKED, counted, listing
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
        targets: what each of them should show, one or several; None to invert them.
        words: learned words in the prompts.
        mask: a file, white where the pictures may change; None to let the model find it.
        saved_info: whether the pictures are written as the official script does it, too.
        edits: what the YAML asks for, once it is read.
    """

    pictures: PathLike
    source: str = ""
    targets: tuple[str, ...] | None = None
    words: tuple[Word, ...] = ()
    mask: PathLike | None = None
    saved_info: bool = False
    edits: Edits | None = None

    @property
    def command(self) -> str:
        """What is done: "invert" or "edit"."""
        return "invert" if self.targets is None else "edit"

    def experiments(self) -> "list[Request]":
        """A request for each experiment that the YAML describes, or else this one.

        Raises:
            SettingError: the YAML cannot be read, or an edit has no target.
        """
        path = Path(self.pictures)
        targets = self.targets or ()
        if path.suffix.lower() in (".yaml", ".yml"):
            if said := self.source or next(filter(None, targets), "") or self.mask:
                raise SettingError(
                    f"the prompts are in {shown(path)}, but {shown(said)} came as well.",
                    f"Leave out {'`prompt`' if self.targets is None else '`source`, `target`'}"
                    " and `mask`.",
                )
            found = read_edits(path, invert=self.targets is None)
            return [replace(self, edits=edits) for edits in found]
        if self.targets is not None and (not targets or not all(targets)):
            raise SettingError("there is no `target`: what the picture should show.", "Give one.")
        return [self]

    def settings(self, preset: str, changes: Mapping[str, Any]) -> FlowOptSettings:
        """Those of a preset, of the YAML, and of the changes; what comes later wins. A YAML of the
        official script's experiments has a preset of its own, in place of the default.

        Raises:
            SettingError: a value is not possible, or not for an inversion.
        """
        values = dict(self.edits.settings) if self.edits else {}
        if changes.get("strengths"):
            values = {name: value for name, value in values.items() if name not in SINGLE}
        experiment = self.edits.experiment if self.edits else None
        if experiment and (experiment.family or preset in DEFAULTS):
            own = experiment.preset(self.command)
            if preset not in (*DEFAULTS, own):
                raise SettingError(
                    f"the experiments are of the preset {own} (got {preset}).",
                    "Leave out `preset`.",
                )
            preset = own
        found = flowopt_preset(preset, **(values | dict(changes)))
        if self.targets is None:
            check_inversion(found)
        return found

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

    def load(self, size: int, settings: FlowOptSettings) -> Given:
        """Read the pictures; the prompts serve all of them."""
        frame, beside = settings.frame, self.targets is not None and not settings.everywhere
        if self.edits:
            return self.edits.load(size, frame, beside)
        found = load_framed(self.pictures, self.mask, size, frame, beside)
        targets, count = self.targets or (), len(found.frames)
        found = found.rows([i for i in range(count) for _ in targets or ("",)])
        return found.asked((self.source,) * len(found.frames), targets * count)


@dataclass(frozen=True)
class FlowOptJob:
    """A run folder and the models that continue it."""

    run: FlowOptRun
    model: Model
    clip: Clip | None

    def steps(self, display: Display = SILENT) -> Generator[Iterate]:
        """Do, or go on with, what the folder's config asks for; yields every new iterate, and
        writes the report at last.

        The folder holds every finished iterate at any time: an interrupted run loses at most the
        one it was in.
        """
        run, model = self.run, self.model
        with held(run.path):
            task, earlier = run.task(model.size), run.earlier()
            editor = Editor(task, model, run.settings, self.clip)
            if earlier:
                restore(run, editor)
            else:
                self._begin(editor, display)
            for iterate in editor.iterates(earlier):
                if iterate.number >= len(earlier):
                    run.save(iterate)
                    yield iterate
                elif iterate.number == len(earlier) - 1:
                    run.save_noise(iterate)  # nothing says whether it is as it was written
            rmse, psnr, ssim = (
                x.tolist() for x in measures(task.images, editor.rebuilt, task.seen)
            )
            write_report(run, {"rmse": rmse, "psnr": psnr, "ssim": ssim})
            write_saved_info(run)

    def _begin(self, editor: Editor, display: Display) -> None:
        """Invert the pictures, find where the edits are, and say what is to be known of that."""
        run = self.run
        begin(run, editor)
        if shares := may_change(run):
            what = "the picture" if len(shares) == 1 else "the pictures"
            display.say(
                f"{100 * fmean(shares):.0f} % of {what} may change: white in {run.path / MASKS}"
            )
        for note in notes_on(run):
            display.note(note)

    def finish(self, display: Display = SILENT) -> None:
        """Do all steps, and show them."""
        settings, pictures = self.run.settings, len(self.run.config["pictures"])
        strip, seeds = self.run.config["command"] == "edit", settings.seeds > 1
        display.say(f"{counted(pictures)}, {planned(settings)}.")
        records = self.run.records()
        before, calls = time.monotonic(), records[-1]["calls"] if records else 0
        with (
            closing(self.steps(display)) as steps,
            display.bar("the start", settings.drawn) as bar,
        ):
            for iterate in steps:
                done, now = iterate.number + 1, time.monotonic()
                # By calls: the start takes others than an iterate does.
                each = (now - before) / (iterate.step.calls - calls)
                before, calls = now, iterate.step.calls
                text = described(iterate, pictures, strip, seeds)
                text += f"  {each * self._calls_after(done):.0f} s left"
                bar.line(text)
                bar.update(text, done)

    def _calls_after(self, done: int) -> int:
        """Of the denoiser, for the iterates of all pictures that come after so many."""
        settings, config = self.run.settings, self.run.config
        pictures = len(config["pictures"])
        hashes = (picture["sha256"] for picture in config["pictures"])
        sources = len({*zip(hashes, config["sources"], strict=True)})
        strip, updates, renewed = list[int](), list[int](), set[Noise]()
        for variant in settings.variants:
            strength = variant.strength
            steps = strength.last or settings.steps
            calls = pictures * steps * self._calls_of(strength.guidance)
            updates += [calls] * settings.iterations
            # With fresh noise the source is asked, too, once for all that has the same.
            if (noise := variant.noise) and noise not in renewed:
                renewed.add(noise)
                steps = settings.deepest_of(noise)
                calls += sources * steps * self._calls_of(settings.source_guidance)
            strip.append(calls)
        return sum([*strip, *updates][done:])

    def _calls_of(self, guidance: float) -> int:
        """Of a slope with so much guidance."""
        return 1 if guidance == 1 else self.model.guidance_calls


def planned(settings: FlowOptSettings) -> str:
    """What is going to be drawn of a picture."""
    strip, updates = len(settings.variants), settings.iterations
    parts = [f"{strip} results"] if strip > 1 else []
    if updates or not parts:
        parts.append("1 update" if updates == 1 else f"{updates} updates")
    return ", ".join(parts) + (" of each" if len(parts) == 2 else "")


def described(iterate: Iterate, pictures: int, strip: bool = False, seeds: bool = False) -> str:
    """Where an inversion or an edit is, means over pictures.

    Args:
        strip: whether it is one of a strip, or an update of one, and told by its strength.
        seeds: whether its seed is told, too.
    """
    step = iterate.step
    parts = [
        f"iterate {iterate.number}",
        f"{step.calls / pictures:.0f} calls a picture",
        f"RMSE {float(iterate.rmse.mean()):.2f}",
    ]
    if strip:
        parts.insert(1, iterate.variant.described(step.iteration, seeds))
    if not strip or step.iteration:
        parts.append(f"best residual {float(step.best.mean()):.5f}")
    if iterate.agreement is not None:
        parts.append(f"CLIP {float(iterate.agreement.mean()):.3f}")
    if back := int(step.diverged.sum()):
        parts.append(f"diverged: {back} back to the best, in smaller steps")
    return "  ".join(parts)


def edit_into(
    output: PathLike,
    pictures: PathLike,
    source: str = "",
    target: str | Sequence[str] = "",
    model: LatentModel | ModelSpec | str = "",
    *,
    mask: PathLike | None = None,
    word: Word | Sequence[Word] | None = None,
    preset: str = "edit",
    clip: str = "",
    with_progress: bool = False,
    **changes: Any,
) -> FlowOptRun:
    """Edit pictures and write everything to a new run folder, like ``evoken edit``.

    Args:
        output: the run folder, which must not exist yet.
        pictures: a picture, a folder of pictures, or a YAML of pictures and prompts.
        source: what the pictures show.
        target: what they should show; of several, each is an edit of its own.
        model: a name, a spec or a loaded model; by default the one that the YAML names, or
            "stickers-flow".
        mask: a file, white where the pictures may change; by default the model finds it.
        word: a learned word in the prompts.
        preset: where all settings come from that ``changes`` does not name.
        clip: name of a CLIP model; by default the one that goes with the model.
        with_progress: show progress on stderr.
        changes: fields of ``FlowOptSettings``.

    Returns:
        The run: ``run.pick()`` copies the suggested result of every picture.

    Raises:
        EvokenError: an argument cannot be used; in this case nothing was written.
    """
    targets = (target,) if isinstance(target, str) else tuple(target)
    return _into(
        output,
        Request(pictures, source, targets, as_words(word), mask),
        model,
        preset,
        changes,
        clip,
        with_progress,
    )


def invert_into(
    output: PathLike,
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
    return _into(output, asked, model, preset, changes, "", with_progress)


def resume(folder: PathLike, *, with_progress: bool = False) -> FlowOptRun:
    """Continue an interrupted edit or inversion; see ``evoken.resume``."""
    display = Display(Console(stderr=True)) if with_progress else SILENT
    job = reopened(folder, display)
    job.finish(display)
    return job.run


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
        settings = asked.settings(preset, changes)
        given = asked.load(CHECKED, settings)
        if any(given.masks):
            check_everywhere(settings)
        check_new(place)
        asked.folders()
    if isinstance(model, ModelSpec | str):
        model = started(_named(model, each[0].edits), display)
    ready = [
        _checked(place, asked, model, asked.settings(preset, changes), clip, display)
        for place, asked in zip(folders, each, strict=True)
    ]
    return [start() for start in ready]


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
    given = asked.load(model.size, settings)
    given.check_masks()
    task, images = given.task, given.images
    if images.blank:
        names = listing(dict.fromkeys(images.blank), "and")
        display.say(f"Note: there is one colour and nothing else in {names}.")
    if taken := given.masks_beside():
        what = "the mask" if len(taken) == 1 else "the masks"
        display.say(f"Taking {what} {listing(taken, 'and')}.")
    for note in images.notes(most_cut=0.0 if settings.frame == "middle" else 1.0):
        display.say(note)
    task = replace(task, words=tuple(fitted(word, model) for word in asked.words))
    check_prompts(model, task)
    for text in notes((*task.sources, *task.targets), [w.placeholder for w in task.words]):
        display.note(text)
    note = sticker_note(model.spec.name, task.images, [min(size) for size in images.sizes])
    display.note(note)
    name = clip or default_clip(model.spec.name)
    its_clip = clip_if_any(name, False, model.spec, display) if task.targets else None

    def start() -> FlowOptJob:
        about, whole = asked.folders(), replace(given, task=task)
        run = FlowOptRun.create(folder, whole, settings, model, name, note, about)
        return FlowOptJob(run, model, its_clip)

    return start


def _named(model: ModelSpec | str, edits: Edits | None) -> ModelSpec:
    """The spec with a name."""
    spec = fitting(model) if isinstance(model, str) else model
    return spec if spec.name else replace(spec, name=(edits and edits.model) or DEFAULT_MODEL)


def reopened(folder: PathLike, display: Display = SILENT) -> FlowOptJob:
    """A run folder, and the models that continue it."""
    run = FlowOptRun.open(folder)
    has_targets = bool(run.config["targets"])
    clip = clip_if_any(run.config["clip"], False, run.spec, display) if has_targets else None
    model = started(run.spec, display)
    run.check_unchanged()  # once the model is there: the hub's may have had to be fetched anew
    display.note(said_of_versions(run.config))
    return FlowOptJob(run, model, clip)
