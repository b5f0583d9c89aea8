"""Continuing a run of any command, from Python."""

from pathlib import Path
from typing import Any

from evoken.arrays import PathLike
from evoken.errors import SettingError, shown
from evoken.flowopt import job as flowopt
from evoken.flowopt.folder import COMMANDS, FlowOptRun
from evoken.run_folder import read_config
from evoken.textual_inversion import job as textual_inversion
from evoken.textual_inversion.folder import LearnRun


def resume(
    folder: PathLike,
    *,
    workers: int | None = None,
    ray: str | None = None,
    with_progress: bool = False,
    **budget: Any,
) -> LearnRun | FlowOptRun:
    """Continue an interrupted run, of a word, an edit or an inversion. The result equals that of an
    uninterrupted run, bit for bit.

    Args:
        folder: the run folder.
        workers, ray, with_progress: as for ``learn_into``; edits and inversions have no workers.
        budget: of a word, also of one that has ended: ``calls``, ``minutes`` and ``patience`` of
            the whole run from now on.

    Raises:
        EvokenError: it is no run folder, it is damaged or was changed, or an argument cannot be
            used.
    """
    path = Path(folder)
    command = read_config(path, "learn", *COMMANDS)["command"]
    if command not in COMMANDS:
        return textual_inversion.resume(
            path, workers=workers, ray=ray, with_progress=with_progress, **budget
        )
    given = {"workers": workers, "ray": ray} | budget
    if names := [name for name, value in given.items() if value is not None]:
        raise SettingError(
            f"{shown(path)} is a run of 'evoken {command}', which goes on as it began.",
            f"Leave out {' and '.join(f'`{name}`' for name in names)}.",
        )
    return flowopt.resume(path, with_progress=with_progress)
