"""The commands of FlowOpt: invert, edit, pick, and flowopt step-size."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoken.cli.common import (
    Batch,
    Device,
    Encoders,
    ModelConfig,
    ModelName,
    Precision,
    RuntimeName,
    Size,
    WordPath,
    errors,
    load_clip_if_any,
    load_word_and_spec,
    new_spec,
    quiet,
    resume_alone,
    spec_of,
    start_model,
)
from evoken.errors import SettingError

if TYPE_CHECKING:
    from evoken.flowopt.edit import Task
    from evoken.flowopt.folder import FlowOptRun
    from evoken.images import ImageSet
    from evoken.models.base import Model
    from evoken.models.clip import Clip

app = typer.Typer(help="What FlowOpt rests on.", no_args_is_help=True)

Pictures = Annotated[
    Path | None,
    typer.Argument(help="A picture, a folder of them, or a YAML of pictures and prompts."),
]
Output = Annotated[Path | None, typer.Option(help="The run folder; runs/NAME by default.")]
Resume = Annotated[Path | None, typer.Option(help="A run folder to go on with.")]
Steps = Annotated[int | None, typer.Option(help="Steps T of the whole process.")]
Last = Annotated[int | None, typer.Option(help="Use the last n of them; 0 means all.")]
Start = Annotated[str | None, typer.Option(help="implicit, uniinv, euler or noise.")]
Tolerance = Annotated[float | None, typer.Option(help="Of the start 'implicit', in latents.")]
Rule = Annotated[
    str | None,
    typer.Option(help="How far an update goes: anderson, fixed or another of docs/flowopt.md."),
]
Eta = Annotated[float | None, typer.Option(help="Step size.")]
Seed = Annotated[int | None, typer.Option(help="Of the start 'noise' and of fresh noise.")]
Fresh = Annotated[
    float | None, typer.Option(help="Share of the start's noise that is drawn anew, 0 to 1.")
]
Iterations = Annotated[int | None, typer.Option(help="Updates of the noise.")]
Guidance = Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 means none.")]
Preset = Annotated[str, typer.Option(help="official-sd3-edit and the like: the paper's script.")]
ClipName = Annotated[str, typer.Option("--clip", help="'stickers', a folder, or a hub id.")]


def invert(
    context: typer.Context,
    pictures: Pictures = None,
    prompt: Annotated[str, typer.Option(help="What the pictures show.")] = "",
    word: WordPath = None,
    model: ModelName = "",
    preset: Preset = "invert",
    steps: Steps = None,
    last: Last = None,
    start: Start = None,
    tolerance: Tolerance = None,
    rule: Rule = None,
    eta: Eta = None,
    iterations: Iterations = None,
    guidance: Guidance = None,
    output: Output = None,
    resume: Resume = None,
    seed: Seed = None,
    precision: Precision = "",
    batch: Batch = 0,
    device: Device = "",
    size: Size = 0,
    encoders: Encoders = "",
    model_config: ModelConfig = "",
    runtime: RuntimeName = "",
) -> None:
    """Find the noise that a model makes a picture from, with forward passes only."""
    changes: dict[str, Any] = {
        "steps": steps, "last": last, "start": start, "tolerance": tolerance, "rule": rule,
        "eta": eta, "iterations": iterations, "guidance": guidance, "seed": seed,
    }  # fmt: skip
    spec = {
        "precision": precision, "batch": batch, "device": device, "size": size,
        "encoders": encoders, "config": model_config, "runtime": runtime,
    }  # fmt: skip
    asked = (pictures, prompt, "", word)
    _start(context, "invert", asked, (model, ""), preset, changes, spec, output, resume)


def edit(
    context: typer.Context,
    pictures: Pictures = None,
    source: Annotated[str, typer.Option("--from", help="What the pictures show.")] = "",
    target: Annotated[str, typer.Option("--to", help="What they should show.")] = "",
    word: WordPath = None,
    model: ModelName = "",
    clip: ClipName = "",
    preset: Preset = "edit",
    steps: Steps = None,
    last: Last = None,
    start: Start = None,
    tolerance: Tolerance = None,
    fresh: Fresh = None,
    rule: Rule = None,
    eta: Eta = None,
    iterations: Iterations = None,
    source_guidance: Guidance = None,
    guidance: Guidance = None,
    patience: Annotated[
        int | None,
        typer.Option(help="End after this many iterates without better agreement; 0: never."),
    ] = None,
    output: Output = None,
    resume: Resume = None,
    seed: Seed = None,
    precision: Precision = "",
    batch: Batch = 0,
    device: Device = "",
    size: Size = 0,
    encoders: Encoders = "",
    model_config: ModelConfig = "",
    runtime: RuntimeName = "",
) -> None:
    """Change what a picture shows; every iterate is a finished picture to pick from."""
    changes: dict[str, Any] = {
        "steps": steps, "last": last, "start": start, "tolerance": tolerance, "fresh": fresh,
        "rule": rule, "eta": eta, "iterations": iterations, "source_guidance": source_guidance,
        "guidance": guidance, "patience": patience, "seed": seed,
    }  # fmt: skip
    spec = {
        "precision": precision, "batch": batch, "device": device, "size": size,
        "encoders": encoders, "config": model_config, "runtime": runtime,
    }  # fmt: skip
    asked = (pictures, source, target, word)
    _start(context, "edit", asked, (model, clip), preset, changes, spec, output, resume)


def pick(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of edit or invert.")],
    number: Annotated[
        int | None, typer.Argument(help="Which iterate; the suggested one by default.")
    ] = None,
) -> None:
    """Take one iterate of an edit as its result: the nearest to the source that still agrees."""
    with errors():
        quiet()
        from evoken.flowopt.folder import FlowOptRun

        for file in FlowOptRun.open(path).pick(number):
            typer.echo(f"Picked: {file}")


@app.command()
def step_size(
    pictures: Pictures,
    prompt: Annotated[str, typer.Option(help="What the pictures show.")] = "",
    model: ModelName = "stickers-flow",
    steps: Annotated[int, typer.Option(help="Steps T of the process.")] = 10,
    last: Annotated[int, typer.Option(help="Use the last n of them; 0 means all.")] = 0,
    iterations: Annotated[int, typer.Option(help="Calls of the whole process.", min=1)] = 8,
    precision: Precision = "",
    batch: Batch = 0,
    device: Device = "",
    size: Size = 0,
    model_config: ModelConfig = "",
    runtime: RuntimeName = "",
) -> None:
    """Estimate the largest step size that still contracts, for these pictures on this model."""
    with errors():
        quiet()
        from evoken.flowopt.inversion import uniinv
        from evoken.flowopt.sampler import ModelSampler
        from evoken.flowopt.step_size import estimate_step_size

        spec = new_spec(name=model, precision=precision, batch=batch, device=device, size=size,
                        config=model_config, runtime=runtime)  # fmt: skip
        loaded = start_model(spec)
        task, images = _task((pictures, prompt, "", None), loaded.size)
        sampler = ModelSampler(loaded, steps, last)
        prompts = sampler.condition(task.sources)
        latents = loaded.encode(task.images)
        start = uniinv(sampler, latents, prompts)
        found = estimate_step_size(sampler, latents, start, prompts, iterations=iterations)
        for name, bound in zip(images.names, found.bounds, strict=True):
            typer.echo(f"{name}: the least bound met is {bound:.4f}")
        typer.echo(f"Use --rule fixed --eta {found.eta:.4f}  ({found.calls:,} calls)")


Asked = tuple[Path | None, str, str, Path | None]  # pictures, source, target, word


def _start(
    context: typer.Context,
    command: str,
    asked: Asked,
    names: tuple[str, str],
    preset: str,
    changes: dict[str, Any],
    spec: dict[str, Any],
    output: Path | None,
    resume: Path | None,
) -> None:
    """Begin or go on with a run, show it, and say what to do next; Ctrl-C says how to resume."""
    begun: list[FlowOptRun] = []

    def advice() -> str:
        if not begun:
            return "Nothing was begun."
        return (
            f"Go on with: evoken {begun[0].config['command']} --resume {quote(str(begun[0].path))}"
        )

    with errors(advice):
        quiet()
        if resume is not None:
            resume_alone(context, resume)
            run, model, clip = _reopen(resume)
        else:
            pictures = asked[0]
            if pictures is None:
                raise SettingError("a picture, or --resume with a run folder", "neither",
                                   'Type: evoken invert PICTURE --prompt "..."')  # fmt: skip
            path = output or Path("runs") / pictures.resolve().stem
            given = {name: value for name, value in changes.items() if value is not None}
            run, model, clip = _create(command, path, asked, names, preset, given, spec)
        begun.append(run)
        _show(run, model, clip)


def _reopen(path: Path) -> tuple[FlowOptRun, Model, Clip | None]:
    from evoken.flowopt.folder import FlowOptRun

    run = FlowOptRun.open(path)
    has_targets, device = bool(run.config["targets"]), run.spec.device
    clip = load_clip_if_any(run.config["clip"], False, device) if has_targets else None
    return run, start_model(run.spec), clip


def _create(
    command: str,
    path: Path,
    asked: Asked,
    names: tuple[str, str],
    preset: str,
    changes: dict[str, Any],
    spec: dict[str, Any],
) -> tuple[FlowOptRun, Model, Clip | None]:
    """A new run folder; nothing is written before everything is checked."""
    from dataclasses import replace

    from evoken.flowopt.edit import check_prompts
    from evoken.flowopt.folder import FlowOptRun
    from evoken.flowopt.settings import flowopt_preset
    from evoken.flowopt.tasks import read_yaml
    from evoken.models.load import default_clip
    from evoken.run_folder import check_new
    from evoken.words.word import fitted

    pictures, source, target, word = asked
    edits = None
    if pictures and pictures.suffix.lower() in (".yaml", ".yml"):
        if source or target:
            raise SettingError("the prompts in the YAML", f"also {(source or target)!r}",
                               "Leave the options with prompts out.")  # fmt: skip
        edits = read_yaml(pictures, invert=command == "invert")
        changes = edits.settings | changes
    elif command == "edit" and not target:
        raise SettingError("what the picture should show", "no --to", 'Add --to "...".')
    settings = flowopt_preset(preset, **changes)
    check_new(path)
    learned, of_word = load_word_and_spec(word)
    name = names[0] or (edits.model if edits else "")
    model = start_model(spec_of(learned, of_word, "stickers-flow", spec | {"name": name}))
    fitting = fitted(learned, model) if learned else None
    task, images = edits.load(model.size) if edits else _task(asked, model.size)
    task = replace(task, word=fitting)
    check_prompts(model, task)
    clip_name = names[1] or default_clip(model.spec.name)
    clip = load_clip_if_any(clip_name, False, model.spec.device) if task.targets else None
    return FlowOptRun.create(path, task, settings, model.spec, clip_name, images), model, clip


def _task(asked: Asked, size: int) -> tuple[Task, ImageSet]:
    """The pictures of the command line; one prompt serves all of them."""
    from evoken.flowopt.edit import Task
    from evoken.images import load_images

    pictures, source, target, _ = asked
    if pictures is None:
        raise SettingError("a picture", "none", "Give a file or a folder.")
    images = load_images(pictures, size)
    count = len(images.names)
    targets = (target,) * count if target else ()
    return Task(images.images, (source,) * count, targets), images


def _show(run: FlowOptRun, model: Model, clip: Clip | None) -> None:
    from evoken.cli.terminal import show_iterates
    from evoken.flowopt.workflow import run_into

    with closing(run_into(run, model, clip)) as iterates:
        show_iterates(iterates, run.settings, len(run.config["pictures"]))
    typer.echo(f"Done. Look at {run.path / 'report.html'}")
    if run.config["targets"]:
        typer.echo(
            f"Take the suggested one with: evoken pick {quote(str(run.path))} (or give its number)"
        )
    else:
        typer.echo(f"The noise is in {run.path / 'noise.safetensors'}")
