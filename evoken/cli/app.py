"""The program: its commands. Heavy imports stand inside them: ``evoken --help`` is instant."""

import typer

from evoken.cli.flowopt import app as flowopt
from evoken.cli.flowopt import edit, invert, pick
from evoken.cli.generate import generate
from evoken.cli.learn import evaluate, learn
from evoken.cli.words import convert, inspect, retrieve

app = typer.Typer(
    help="Teach a frozen text-to-image model a new word, with forward passes only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (learn, generate, evaluate, invert, edit, pick, convert, inspect, retrieve):
    app.command()(command)
app.add_typer(flowopt, name="flowopt")


def main() -> None:
    """Entry point of the ``evoken`` command."""
    app(prog_name="evoken")
