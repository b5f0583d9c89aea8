"""A job: a command of the queue, as its folder holds it (see ``evoken.web.jobs``)."""

import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from shlex import join
from typing import Any

from evoken.cache import cache_root
from evoken.errors import shown
from evoken.files import write_json

DRAFT, WAITING, RUNNING, DONE, FAILED, STOPPED = (
    *("draft", "waiting", "running"),
    *("done", "failed", "stopped"),
)
ENDED = (DONE, FAILED, STOPPED)
FILE = "job.json"


@dataclass(frozen=True)
class Job:
    """A command that waits, runs or has run.

    Attributes:
        id: sorts by the time at which it was made.
        title: what a person calls it.
        arguments: of the command, to be run in the folder of the runs.
        run: the name of its run folder; "" for commands that make none.
        state: DRAFT, WAITING, RUNNING, DONE, FAILED or STOPPED.
        values: what the form held, to fill it again.
        urgent: whether it goes before those that wait.
        seconds: that it has taken.
    """

    id: str
    title: str
    arguments: tuple[str, ...]
    run: str = ""
    state: str = WAITING
    values: Mapping[str, Any] | None = None
    urgent: bool = False
    seconds: float = 0.0

    @property
    def command(self) -> str:
        """What does the same in a terminal."""
        return join(["evoken", *self.arguments])

    @property
    def verb(self) -> str:
        """The command's name."""
        return self.arguments[0]


def read_job(folder: Path) -> Job:
    """The job of a folder; ``OSError`` or ``ValueError`` if there is none.

    A job runs a command. One that this user's page did not write, as in a folder of runs from
    somebody else, is one that was stopped: it is shown, and runs if it is asked for.
    """
    file = folder / FILE
    if folder.is_symlink() or file.is_symlink():
        raise ValueError(f"{shown(folder)} is a link")
    values = json.loads(file.read_text(encoding="utf-8"))
    try:
        seal = values.pop("seal", "")
        job = Job(**values | {"arguments": tuple(values["arguments"])})
        texts = (job.id, job.title, job.run, job.state, *job.arguments)
        if job.id != folder.name or not job.arguments or not all(isinstance(t, str) for t in texts):
            raise ValueError(f"{shown(folder)} holds another job")
        if job.state not in ENDED and not secrets.compare_digest(str(seal), _seal(folder, job)):
            return replace(job, state=STOPPED)
        return job
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{shown(folder)} holds no job") from error


def write_job(folder: Path, job: Job) -> None:
    """Keep a job; its file appears whole."""
    write_json(folder / FILE, asdict(job) | {"seal": _seal(folder, job)})


def _seal(folder: Path, job: Job) -> str:
    """What only this user can write of a job in this place."""
    text = json.dumps([str(folder.resolve()), asdict(job)], sort_keys=True)
    return hmac.new(_key(), text.encode(), "sha256").hexdigest()


@cache
def _key() -> bytes:
    """A secret of this user, made at the first time."""
    file = cache_root() / "web.key"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=file.parent)  # readable for its owner alone
        os.write(handle, secrets.token_bytes(32))
        os.close(handle)
        with suppress(FileExistsError):  # another process was faster
            os.link(partial, file)
        os.unlink(partial)
    return file.read_bytes()
