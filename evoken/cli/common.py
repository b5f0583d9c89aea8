"""What the commands share: common options, and errors as text and exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoken.errors import EvokenError, SettingError
from evoken.models.notices import quiet as quiet

if TYPE_CHECKING:
    from evoken.evaluation.evaluator import Evaluator
    from evoken.models.base import ModelSpec
    from evoken.models.clip import Clip
    from evoken.models.families.latent import LatentModel
    from evoken.textual_inversion.recipe import Recipe
    from evoken.words.word import Word

ModelName = Annotated[
    str,
    typer.Option(
        "--model", help="'stickers', 'stickers-flow', a folder, a hub id, or a .safetensors file."
    ),
]
ModelConfig = Annotated[
    str,
    typer.Option(
        help="For a single file: a folder or hub id of a pipeline of the same kind, "
        "which also gives what the file lacks."
    ),
]
Encoders = Annotated[
    str,
    typer.Option(help="Text encoders that a word lives in, such as 'clip_l,clip_g'."),
]
Size = Annotated[int, typer.Option(help="Side of the pictures in pixels; 0: the model's own.")]
Precision = Annotated[
    str, typer.Option(help="Of arithmetic: float32 (default), bfloat16 or float16.")
]
Batch = Annotated[
    int, typer.Option(help="Most latents per forward pass, rounded up to 16; 0: what fits.")
]
Device = Annotated[str, typer.Option(help="A torch device: cpu (default), cuda, mps or another.")]
RuntimeName = Annotated[
    str,
    typer.Option(
        "--runtime", help="Of the denoiser: torch (default), torch-int8, onnx or openvino."
    ),
]
Seed = Annotated[int, typer.Option(help="Of every random number.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that share the work; with --ray, actors. Changes no result."),
]
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Work on Ray: local, auto or HOST:PORT of a cluster."),
]
WordPath = Annotated[Path | None, typer.Option("--word", help="A run folder or a word's file.")]


@contextmanager
def errors(resume: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Bad input: one sentence and exit code 2. Ctrl-C: how to go on, and exit code 130."""
    try:
        yield
    except EvokenError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. {resume()}".rstrip(), err=True)
        raise typer.Exit(130) from None


def resume_alone(context: typer.Context, path: Path, *beside: str) -> None:
    """Of a command's parameters only ``beside`` may be given with ``--resume``.

    Raises:
        SettingError: others were, which would change nothing: all they say is in the run folder.
    """

    def was_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in ("resume", *beside) and was_given(str(parameter.name))
    ]
    if given:
        raise SettingError("--resume alone: pictures, model and settings are in the run folder",
                           f"also {', '.join(given)}",
                           f"Type: evoken {context.info_name} --resume "
                           f"{quote(str(path))}")  # fmt: skip


def spec_of(
    word: Word | None, of_word: ModelSpec | None, default: str, given: dict[str, Any]
) -> ModelSpec:
    """The model that the options ask for: where they say nothing that of the word's run, and of
    another model at least the encoders that the word lives in.
    """
    from dataclasses import replace

    from evoken.models.base import ModelSpec

    name = given["name"] or (of_word.name if of_word else default)
    spec = ModelSpec(name)
    if of_word:
        spec = of_word if of_word.name == name else replace(spec, encoders=of_word.encoders)
    elif word and len(word.encoders) > 1:
        spec = replace(spec, encoders=",".join(word.encoders))
    return replace(spec, **{key: value for key, value in given.items() if value})


def new_spec(**given: Any) -> ModelSpec:
    """A model as the options say; where they say nothing, the defaults."""
    from evoken.models.base import ModelSpec

    return ModelSpec(**{name: value for name, value in given.items() if value})


def start_model(spec: ModelSpec) -> LatentModel:
    """The model of a spec, on its runtime; says how near that is to torch when it is new."""
    from evoken.models.load import load_model, warm_up

    model = load_model(spec)
    if check := warm_up(model):
        typer.echo(f"Checked once: {check}.")
    return model


def load_word_and_spec(path: Path | None) -> tuple[Word | None, ModelSpec | None]:
    """The word at a path, and the model of its run if it is in one."""
    from evoken.textual_inversion.folder import LearnRun
    from evoken.words.word import load_word

    if path is None:
        return None, None
    in_run = (path / "config.json").is_file()
    return load_word(path), LearnRun.open(path).spec if in_run else None


def load_clip_if_any(name: str, needed: bool, device: str) -> Clip | None:
    """A CLIP model, or a note that there is none where the command can do without."""
    from evoken.errors import ModelError
    from evoken.models.load import load_clip

    try:
        return load_clip(name, device)
    except ModelError as error:
        if needed:
            raise
        typer.echo(f"Note: no CLIP scores ({error})")
        return None


@contextmanager
def evaluators(
    workers: int | None, ray: str | None
) -> Iterator[Callable[[Recipe], Evaluator | None]]:
    """How to start the workers that were asked for, None for none; at the end they are ended."""
    with ExitStack() as stack:

        def start(recipe: Recipe) -> Evaluator | None:
            from evoken.evaluation.processes import Processes
            from evoken.evaluation.ray_cluster import RayWorkers

            device = recipe.spec.device
            if ray is not None:
                return stack.enter_context(closing(RayWorkers(recipe, ray, workers, device)))
            if workers is not None:
                return stack.enter_context(closing(Processes(recipe, workers, device)))
            return None

        yield start
