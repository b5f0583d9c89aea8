"""The program: its commands. Heavy imports stand inside them: ``evoken --help`` is instant."""

from typing import Annotated

import typer

from evoken.cli.flowopt import app as flowopt
from evoken.cli.flowopt import edit, invert
from evoken.cli.generate import generate
from evoken.cli.learn import evaluate, finish, learn
from evoken.cli.pick import pick
from evoken.cli.runs import compare, runs
from evoken.cli.words import convert, inspect, merge, retrieve
from evoken.version import __version__

app = typer.Typer(
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
