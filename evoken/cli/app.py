"""The program: its commands. Heavy imports stand inside them: ``evoken --help`` is instant."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from evoken.cli.common import interrupted
from evoken.cli.flowopt import app as flowopt
from evoken.cli.flowopt import edit, invert
from evoken.cli.generate import generate
from evoken.cli.learn import evaluate, finish, learn
from evoken.cli.pick import pick
from evoken.cli.runs import compare, runs
from evoken.cli.terminal import tell
from evoken.cli.web import web
from evoken.cli.words import convert, inspect, merge, retrieve
from evoken.errors import EvokenError
from evoken.version import __version__

USAGE_ERROR: Any = typer.BadParameter.__base__  # typer gives it no name that lasts


@contextmanager
def usage_errors() -> Iterator[None]:
    """What cannot be parsed is an error like any other: one line, and exit code 2. Ctrl-C before a
    command has begun is one as well: typer would end without a word.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise interrupted(error, "Nothing was started.") from None
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        said = " ".join(error.format_message().replace("`", "'").split())
        names = error.ctx.command_path.split()[1:] if error.ctx else []
        command = " ".join([*names, "--help"])
        end = "" if said.endswith(("?", ".")) else "."
        problem = f"{said[:1].lower()}{said[1:]}{end}"
        tell(EvokenError(problem, f"See what there is: evoken {command}"), {})
        raise typer.Exit(2) from None


class Program(TyperGroup):
    """The commands, with evoken's own errors in place of a parser's."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """As of typer."""
        with usage_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """As of typer."""
        with usage_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Program,
    help="Teach a frozen text-to-image model a new word, with forward passes only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    learn,
    finish,
    generate,
    evaluate,
    invert,
    edit,
    pick,
    runs,
    compare,
    convert,
    merge,
    inspect,
    retrieve,
    web,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(flowopt, name="flowopt")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"evoken {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Teach a frozen text-to-image model a new word, with forward passes only."""
