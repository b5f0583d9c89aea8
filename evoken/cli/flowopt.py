"""The commands of FlowOpt: invert, edit, pick, and flowopt step-size."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoken.cli.common import (
    AsJson,
    ClipName,
    EditOutput,
    InvertOutput,
    Out,
    Resume,
    WordPaths,
    errors,
    load_words,
    resume_alone,
    spec_of,
)
from evoken.cli.options import From, takes
from evoken.errors import SettingError
from evoken.flowopt.settings import DEFAULTS, SINGLE, FlowOptSettings
from evoken.options import ABOUT, BUDGET
from evoken.spec import FITTING, ModelSpec, fitting

if TYPE_CHECKING:
    from evoken.flowopt.job import FlowOptJob

app = typer.Typer(help="Tools for FlowOpt.", no_args_is_help=True)

Pictures = Annotated[
    Path | None,
    typer.Argument(help="A picture, a folder of them, or a YAML of pictures and prompts."),
]
Prompt = Annotated[str, typer.Option(help="What the pictures show.", rich_help_panel=ABOUT)]
Preset = Annotated[
    str,
    typer.Option(
        help="Where all other values come from; official-sd3-edit and the like are the paper's "
        "script.",
        rich_help_panel=ABOUT,
    ),
]
SavedInfo = Annotated[
    bool,
    typer.Option(
        "--saved-info",
        help="Also write the pictures into saved_info in the run folder, in folders and under "
        "names as the paper's script gives them. Takes the script's YAML.",
    ),
]
DEFAULT_MODEL = FITTING | {"name": "the word's own, or stickers-flow"}


OF_EDITS = ("fresh", "source_guidance", "patience", "strengths", "everywhere", "seeds")


def _changed(file: dict[str, Any], line: dict[str, Any], of_run: bool) -> dict[str, Any]:
    """The values of a file with those of the line: a strip of strengths is left out where the line
    has a single one, and the other way round.
    """
    for one, other in ((SINGLE, ("strengths",)), (("strengths",), SINGLE)):
        if line.keys() & {*one} and not line.keys() & {*other}:
            file = {name: value for name, value in file.items() if name not in other}
    return file | line


@takes(
    settings=From(FlowOptSettings, OF_EDITS, DEFAULTS["invert"]),
    spec=From(ModelSpec, defaults=DEFAULT_MODEL),
)
def invert(
    context: typer.Context,
    settings: dict[str, Any],
    spec: dict[str, Any],
    pictures: Pictures = None,
    prompt: Prompt = "",
    word: WordPaths = None,
    output: InvertOutput = None,
    resume: Resume = None,
    preset: Preset = "invert",
    saved_info: SavedInfo = False,
    as_json: AsJson = False,
) -> None:
    """Find the noise that a model makes a picture from, with forward passes only."""
    asked = None if pictures is None else (pictures, prompt, None, None)
    out = Out(as_json)
    _start(context, asked, word, spec, preset, settings, "", output, resume, saved_info, out)


@takes(
    settings=From(FlowOptSettings, defaults=DEFAULTS["edit"], changed=_changed),
    spec=From(ModelSpec, defaults=DEFAULT_MODEL),
)
def edit(
    context: typer.Context,
    settings: dict[str, Any],
    spec: dict[str, Any],
    pictures: Pictures = None,
    source: Annotated[
        str, typer.Option("--from", help="What the pictures show.", rich_help_panel=ABOUT)
    ] = "",
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            help="What they should show; of several, each is an edit of its own (repeatable).",
            rich_help_panel=ABOUT,
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A picture that is white where the others may change. \\[default: the model "
            "finds it]",
            rich_help_panel=ABOUT,
            show_default=False,
        ),
    ] = None,
    word: WordPaths = None,
    output: EditOutput = None,
    resume: Resume = None,
    preset: Preset = "edit",
    clip: ClipName = "",
    saved_info: SavedInfo = False,
    as_json: AsJson = False,
) -> None:
    """Change what a picture shows, and nothing else of it, in a milder and a stronger result."""
    asked = None if pictures is None else (pictures, source, tuple(target or ()), mask)
    out = Out(as_json)
    _start(context, asked, word, spec, preset, settings, clip, output, resume, saved_info, out)


def _start(
    context: typer.Context,
    asked: tuple[Path, str, tuple[str, ...] | None, Path | None] | None,
    word: list[str] | None,
    spec: dict[str, Any],
    preset: str,
    changes: dict[str, Any],
    clip: str,
    output: Path | None,
    resume: Path | None,
    saved_info: bool,
    out: Out,
) -> None:
    """Start or continue runs, show them, and say what to do next; Ctrl-C says how to resume."""
    left: list[FlowOptJob] = []

    def advice() -> str:
        if not left:
            return "Nothing was started."
        commands = (
            f"evoken {job.run.config['command']} --resume {quote(str(job.run.path))}"
            for job in left
        )
        return f"Continue with: {' && '.join(commands)}"

    with errors(advice):
        from evoken.files import LONGEST, shortened
        from evoken.flowopt.job import Request, begun_all, reopened
        from evoken.images import name_of_pictures
        from evoken.models.provenance import public_name

        if resume is not None:
            resume_alone(context, resume)
            jobs = [reopened(resume, out.display)]
        elif asked is None:
            more = '--prompt "..."' if context.info_name == "invert" else '--from "..." --to "..."'
            raise SettingError(
                f"{context.info_name} needs a picture, or `resume` with a run folder.",
                f"Type: evoken {context.info_name} PICTURE {more}",
            )
        else:
            words, of_words = load_words(word)
            model = spec_of(words, of_words, "", spec)
            if of_words and "name" not in spec:
                its = public_name(model.name)
                out.say(f"Taking the model that the word was learned on: {its}.")
            pictures, source, targets, mask = asked
            request = Request(pictures, source, targets, tuple(words), mask, saved_info)
            each = request.experiments()
            # The name of what is learned from the same pictures is left to "learn".
            ending = f"-{context.info_name}"
            name = shortened(name_of_pictures(asked[0]), LONGEST - len(ending)) + ending
            folder = output or Path("runs") / name
            jobs = begun_all(folder, each, model, preset, changes, clip, out.display)
        left += jobs
        results = []
        for job in jobs:
            if len(jobs) > 1:
                out.say(f"{job.run.path}:")
            job.finish(out.display)
            results.append(_told(job, out))
            left.remove(job)
        out.result(**(results[0] if len(results) == 1 else {"runs": results}))


def _told(job: FlowOptJob, out: Out) -> dict[str, Any]:
    """Say what was made, and what to do with it; the same for --json."""
    run = job.run
    out.say(f"Done. Look at {run.path / 'report.html'}")
    result = {"run": run.path, "report": run.path / "report.html", "iterates": len(run.records())}
    if run.config["targets"]:
        path = quote(str(run.path))
        result["suggested"] = run.suggestions()
        if result["suggested"] is None:
            out.say(f"Take one of them with: evoken pick {path} NUMBER")
        else:
            out.say(f"Take the suggested one with: evoken pick {path} (or give its number)")
    else:
        out.say(f"The noise is in {run.path / 'noise.safetensors'}")
        result["noise"] = run.path / "noise.safetensors"
    return result


@app.command()
@takes(
    settings=From(
        FlowOptSettings, tuple(set(FlowOptSettings.__dataclass_fields__) - {"steps", "last"})
    ),
    spec=From(ModelSpec, ("encoders",), FITTING | {"name": "stickers-flow"}),
)
def step_size(
    settings: dict[str, Any],
    spec: dict[str, Any],
    pictures: Annotated[Path, typer.Argument(help="A picture or a folder of them.")],
    prompt: Prompt = "",
    iterations: Annotated[
        int,
        typer.Option(help="Calls of the whole process.", min=1, max=1000, rich_help_panel=BUDGET),
    ] = 8,
    as_json: AsJson = False,
) -> None:
    """Estimate the largest step size that still contracts, for these pictures on this model."""
    out = Out(as_json)
    with errors():
        from evoken.flowopt.inversion import uniinv
        from evoken.flowopt.job import Request
        from evoken.flowopt.sampler import ModelSampler
        from evoken.flowopt.step_size import estimate_step_size
        from evoken.images import CHECKED
        from evoken.models.load import started

        chosen = FlowOptSettings(**settings)
        asked = Request(pictures, prompt)
        asked.load(CHECKED, chosen)  # before the model, which takes long
        model = started(fitting(**{"name": "stickers-flow"} | spec), out.display)
        given = asked.load(model.size, chosen)
        task, images = given.task, given.images
        sampler = ModelSampler(model, chosen.steps, chosen.last)
        prompts = sampler.condition(task.sources)
        latents = model.encode(task.images)
        start = uniinv(sampler, latents, prompts)
        found = estimate_step_size(sampler, latents, start, prompts, iterations=iterations)
        rows = list(zip(images.names, found.bounds, found.etas, strict=True))
        for name, bound, eta in rows:
            said = f"the smallest bound found is {bound:.4f}, for --eta {eta:.4g}"
            out.say(f"{name}: {said if bound else 'no step size contracts'}")
        advice = f"Use --rule fixed --eta {found.eta:.4g}"
        if len(rows) > 1:
            advice += f" for all of {'them' if all(found.bounds) else 'the others'} together"
        if not found.eta:
            advice = "No step size contracts: describe the picture with --prompt, or use more steps"
        out.say(f"{advice}  ({found.calls:,} calls)")
        out.result(
            bounds=[{"file": name, "bound": bound, "eta": eta} for name, bound, eta in rows],
            eta=found.eta,
            calls=found.calls,
        )
