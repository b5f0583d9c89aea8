"""With which budget a run can go on after its end."""

from pathlib import Path
from shlex import quote

from evoken.errors import SettingError
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Learner, cost_of_generation

BUDGETS = ("calls", "minutes", "patience")  # all count from the start of the run


def check_calls(run: LearnRun, calls: int, given: bool) -> None:
    """Raise ``SettingError`` unless so many calls pay for another generation of a run. How many one
    takes is known once one is done.

    Args:
        given: whether they are a new budget; or else that of the run.
    """
    records = run.records()
    if len(records) < 2:
        return
    spent, cost = records[-1].calls, cost_of_generation(records)
    if calls >= spent + cost:
        return
    if not given:
        raise SettingError(
            f"the run has spent {spent:,} of its {calls:,} calls, and another generation takes "
            f"{cost:,}.",
            f"Give `calls`, too: at least {spent + cost:,}, counted from the start of the run.",
        )
    raise SettingError(
        f"`calls` must be at least {spent + cost:,} (got {calls:,}): it counts from the start "
        f"of the run, which has spent {spent:,} calls, and another generation takes {cost:,}.",
        "Raise `calls`.",
    )


def check_left(learner: Learner) -> None:
    """Raise ``SettingError`` if a learner's budget leaves nothing to do."""
    if not learner.finished:
        return
    s = learner.settings
    limits = [f"{s.calls:,} calls"]
    limits += [f"{s.minutes:g} minutes"] if s.minutes else []
    limits += [f"a patience of {s.patience} generations"] if s.patience else []
    raise SettingError(
        f"with {' and '.join(limits)} there is nothing left to do: the run has spent "
        f"{learner.calls:,} calls in {learner.seconds / 60:.1f} minutes, and generation "
        f"{learner.best_generation} of {learner.generation} was the best.",
        "Raise `calls`, `minutes` or `patience`: they count from the start of the run, and "
        "0 lifts a limit of minutes or patience.",
    )


def to_learn_on(folder: Path, learner: Learner) -> str:
    """The command by which a run goes on: with twice each budget that is used up, or twice what
    was spent where a generation took longer than that.
    """
    s, command = learner.settings, ["evoken", "learn", "--resume", quote(str(folder))]
    if learner.generation >= learner.generations:
        command += ["--calls", str(2 * s.calls)]
    if learner.out_of_time:
        spent = float(f"{learner.seconds / 30:.2g}")
        command += ["--minutes", f"{max(2 * s.minutes, spent):g}"]
    if learner.out_of_patience:
        command += ["--patience", "0"]
    return " ".join(command)
