"""Options with values that make no sense."""

import os
from pathlib import Path
from typing import Any

import typer

from benchmarks.campaign.mutate import Random, pick
from evoken.cli.app import app

NUMBERS = ("0", "-1", "nan", "inf", "-inf", "1e308", str(2**63), "1000000000", "1e-320", "1.5")
TEXTS = ("", " ", "x", "y" * 5000, "\x1b[2J\u202e", "-", "--", "'\"`$(x)", "[/red]", "{0}", "*")
# Nothing outside the case's folder: some options overwrite what they name.
PATHS = ("pipe", "loop", "folder", "file", "none/a/b", "", ".", "p" * 300, "a\x1b[31m", "file/x")
NEVER = {"--help", "-h", "--ray"}


def wrong_options(command: str, random: Random, here: Path) -> list[str]:
    """One to three options of a command, each with a value of any kind.

    Args:
        here: where the paths among them are made.
    """
    os.mkfifo(here / "pipe")
    (here / "loop").symlink_to("loop")
    (here / "folder").mkdir()
    (here / "file").write_text("text")
    group: Any = typer.main.get_command(app)
    known = [
        parameter
        for parameter in group.commands[command].params
        if parameter.param_type_name == "option" and not set(parameter.opts) & NEVER
    ]
    given: list[str] = []
    for _ in range(int(random.integers(1, 4))):
        parameter = pick(random, known)
        flag = str(pick(random, [*parameter.opts, *parameter.secondary_opts]))
        given.append(flag.strip())
        if not getattr(parameter, "is_flag", False):
            given.append(_value(str(parameter.type_descriptor.annotation), random))
    return given


def _value(kind: str, random: Random) -> str:
    """Mostly one that is as the option's type makes likely."""
    likely = NUMBERS if "int" in kind or "float" in kind else PATHS if "Path" in kind else TEXTS
    return pick(random, likely if random.random() < 0.8 else (*NUMBERS, *TEXTS, *PATHS))
