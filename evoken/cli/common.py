"""What the commands share: options that are no settings, output, and errors as text and codes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoken.cli.exits import BAD_INPUT, code_of, heard
from evoken.cli.options import flags
from evoken.cli.terminal import print_line, tell, with_flags
from evoken.errors import EvokenError, RunError, SettingError, reason_of, shown
from evoken.options import ABOUT, BUDGET
from evoken.spec import ModelSpec, fitting

if TYPE_CHECKING:
    from evoken.progress import Display
    from evoken.words.word import Word


def _output(default: str) -> Any:
    """The option that names a new run folder."""
    text = f"The run folder. \\[default: {default}]"
    return typer.Option(help=text, rich_help_panel=ABOUT, show_default=False)


Output = Annotated[Path | None, _output("runs/NAME")]
InvertOutput = Annotated[Path | None, _output("runs/NAME-invert")]
EditOutput = Annotated[Path | None, _output("runs/NAME-edit")]
Resume = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="A run folder to continue.", rich_help_panel=ABOUT),
]
WordPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--word",
        metavar="WORD",
        help="A run folder, a word's file, or a hub id; FILE#NAME of several in one file "
        "(repeatable).",
        rich_help_panel=ABOUT,
    ),
]
ClipName = Annotated[
    str,
    typer.Option(
        "--clip",
        help="CLIP model for the start and the scores: 'stickers', a folder or a hub id. "
        "\\[default: the model's]",
        rich_help_panel="Model",
        show_default=False,
    ),
]
Seed = Annotated[
    int, typer.Option(help="Seed for all random numbers.", min=0, rich_help_panel=ABOUT)
]
Count = Annotated[int, typer.Option(help="Pictures per prompt.", rich_help_panel=BUDGET)]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object; progress goes to stderr."),
]


@contextmanager
def errors(resume: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Bad input: one sentence and exit code 2. Ctrl-C: how to continue, and exit code 130."""
    try:
        yield
    except EvokenError as error:
        if heard:
            raise interrupted(error, resume()) from None
        tell(error, flags())
        raise typer.Exit(BAD_INPUT) from None
    except BrokenPipeError:
        raise  # nobody reads on: typer ends the command
    except OSError as error:  # of a path that nobody looked at before
        if error.filename is None:
            raise  # of no path, such as a full disk behind stdout
        tell(_of_system(error), flags())
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt as error:
        raise interrupted(error, resume()) from None


def interrupted(error: BaseException, advice: str) -> typer.Exit:
    """Say that the command was interrupted and how it goes on; the exit to raise."""
    typer.echo(err=True)
    print_line(f"Interrupted. {advice}".rstrip(), err=True)
    return typer.Exit(code_of(error))


def _of_system(error: OSError) -> EvokenError:
    """The error for a file that the system does not let be read, found or written."""
    where = f"could not use {shown(Path(os.fsdecode(error.filename)))}"
    return RunError(f"{where}: {reason_of(error)}.", "Check the path.")


class Out:
    """Where a command prints: to stdout; with --json the object alone, and all else to stderr."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    @property
    def display(self) -> Display:
        """For progress and notes."""
        from rich.console import Console

        from evoken.progress import Display

        return Display(Console(stderr=self._as_json), lambda text: with_flags(text, flags()))

    def say(self, text: str) -> None:
        """A line for people, whoever wrote what is in it."""
        if not self._as_json:
            print_line(text)

    def result(self, **values: Any) -> None:
        """The JSON object, where that is asked for."""
        if self._as_json:
            typer.echo(json.dumps(values, default=str, allow_nan=False))


def resume_alone(context: typer.Context, path: Path, *beside: str) -> None:
    """Of a command's parameters only ``beside`` may be given with ``--resume``.

    Raises:
        SettingError: others were, which would change nothing: all they say is in the run folder.
    """

    def was_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name in ("COMMANDLINE", "DEFAULT_MAP")

    given = [
        f"`{parameter.name}`"
        for parameter in context.command.params
        if parameter.name not in ("resume", "as_json", *beside) and was_given(str(parameter.name))
    ]
    if given:
        raise SettingError(
            f"{', '.join(given)} cannot be given with `resume`: pictures, model and settings come "
            "from the run folder.",
            f"Type: evoken {context.info_name} --resume {quote(str(path))}",
        )


def spec_of(
    words: Sequence[Word], of_words: Sequence[ModelSpec], default: str, given: Mapping[str, Any]
) -> ModelSpec:
    """The model that the options ask for: where they say nothing that of the words' runs, and of
    another model at least the encoders that the words live in. Where the run's device is not the
    one that would be chosen here, its precision is not taken either.

    Raises:
        SettingError: the words were learned on different models or for different text encoders,
            and no option names which.
    """
    from dataclasses import replace

    from evoken.models.runtimes.requirements import chosen

    names = list(dict.fromkeys(spec.name for spec in of_words))
    if len(names) > 1 and not given.get("name"):
        raise SettingError(
            f"the words were learned on different models ({' and '.join(map(shown, names))}).",
            "Choose one with `name`.",
        )
    read_by = list(dict.fromkeys(", ".join(word.encoders) for word in words if word.encoders))
    if len(read_by) > 1 and not given.get("encoders"):
        raise SettingError(
            f"the words are for different text encoders ({' and '.join(read_by)}).",
            "Choose those that all have with `encoders`.",
        )
    word, of_word = next(iter(words), None), next(iter(of_words), None)
    name = given.get("name") or (of_word.name if of_word else default)
    spec = fitting(name)
    if of_word:
        here = replace(of_word, device=spec.device)
        if chosen(here).device != of_word.device:
            here = replace(here, precision=spec.precision)
        spec = here if of_word.name == name else replace(spec, encoders=of_word.encoders)
    elif word and len(word.encoders) > 1:
        spec = replace(spec, encoders=",".join(word.encoders))
    return replace(spec, **{key: value for key, value in given.items() if key != "name"})


def check_folder(output: Path | None, endings: tuple[str, ...]) -> None:
    """Raise ``SettingError`` for the name of a file where a folder is asked for."""
    if output and output.suffix.lower() in endings and not output.is_dir():
        raise SettingError(
            f"`output` must be a folder (got {shown(output)}).", "Leave out the file's name."
        )


def load_words(paths: Sequence[str] | None) -> tuple[list[Word], list[ModelSpec]]:
    """The words that are asked for, and the models of their runs, of those that are in one."""
    from evoken.textual_inversion.folder import LearnRun
    from evoken.words.word import load_word

    words, specs = [], []
    for path in paths or ():
        words.append(load_word(path))
        if run := LearnRun.of_word(path):
            specs.append(run.spec)
    return words, specs
