"""The command that takes one result out of those that a run has."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from evoken.cli.common import AsJson, Out, errors
from evoken.cli.options import takes
from evoken.errors import SettingError


@takes()
def pick(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    number: Annotated[
        int | None,
        typer.Argument(
            help="Which iterate of an edit, by default the suggested one: what has gained "
            "most. Which generation of a word."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take one iterate of an edit, or the word as it was after one generation of learning."""
    out = Out(as_json)
    with errors():
        from evoken.flowopt.folder import COMMANDS, FlowOptRun
        from evoken.run_folder import read_config
        from evoken.textual_inversion.job import pick as pick_word

        if read_config(path, "learn", *COMMANDS)["command"] in COMMANDS:
            files = FlowOptRun.open(path).pick(number)
        elif number is None:
            raise SettingError(
                "a run keeps its best word anyway; for another one, the `number` of its generation "
                "is needed.",
                f"Type it, such as: evoken pick {quote(str(path))} 10",
            )
        else:
            files = [pick_word(path, number)]
        for file in files:
            out.say(f"Picked: {file}")
        out.result(picked=files)
