"""Runs of any command."""

from pathlib import Path

from evoken.flowopt import folder as flowopt
from evoken.flowopt.summary import summary as of_flowopt
from evoken.run_folder import Summary, command_of
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.summary import summary as of_learn

AnyRun = LearnRun | flowopt.FlowOptRun


def open_run(path: Path) -> AnyRun:
    """A run folder of any command; raises ``RunError`` if it is none, or damaged."""
    if command_of(path) in flowopt.COMMANDS:
        return flowopt.FlowOptRun.open(path)
    return LearnRun.open(path)


def summary(path: Path) -> Summary:
    """A run in a line; raises ``EvokenError`` if its folder is damaged."""
    run = open_run(path)
    return of_learn(run) if isinstance(run, LearnRun) else of_flowopt(run)
