"""The one door to the terminal: what is printed is plain, whoever wrote it."""

import re
from collections.abc import Mapping

import typer

from evoken.errors import EvokenError, plain

PROBLEM, FIX = 400, 250  # letters; a message with more holds a text that nobody would read in it


def print_line(text: str, err: bool = False) -> None:
    """One line on stdout, or on stderr."""
    typer.echo(plain(text), err=err)


def tell(error: EvokenError, flags: Mapping[str, str]) -> None:
    """An error in one line, with a command's options in place of the settings that it names."""
    message = f"{_cut(error.problem, PROBLEM)} {_cut(error.fix, FIX)}".rstrip()
    print_line(f"error: {with_flags(message, flags)}", err=True)


def with_flags(message: str, flags: Mapping[str, str]) -> str:
    """A message with the flags of the names that stand in backticks; those of no option lose their
    backticks.
    """
    return re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[1]), message)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
