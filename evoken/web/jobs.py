"""The queue: one command after the other, each in a process of its own. All of it is on disk, so a
page that was closed, or a server that has ended, finds it again.

    RUNS/.web/jobs/ID/
        job.json    what is done, and how it ended
        log.txt     what the command printed
        lock        locked as long as its process lives
        stop        there when it is to be interrupted
        ...         its uploads
"""

import fcntl
import hmac
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from shlex import join
from typing import Any

from evoken.cache import cache_root
from evoken.errors import EvokenError, RunError, one_line, shown
from evoken.files import lock_folder, write_json

HOME = ".web"
DRAFT, WAITING, RUNNING, DONE, FAILED, STOPPED = (
    *("draft", "waiting", "running"),
    *("done", "failed", "stopped"),
)
ENDED = (DONE, FAILED, STOPPED)
PAUSE = 0.1  # seconds between two looks at the queue
AFTER_ERROR = 5.0  # seconds after which what failed in the queue itself is tried again
PATIENCE = 30.0  # seconds that a command has to write what it did when the server ends
MOST_WAITING = 100
DRAFTS_LIVE = 24 * 3600  # seconds


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
    file = folder / "job.json"
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
    write_json(folder / "job.json", asdict(job) | {"seal": _seal(folder, job)})


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


class Queue:
    """The jobs of a folder of runs.

    Raises:
        RunError: another server works on that folder.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._folder = runs / HOME / "jobs"
        for part in (runs / HOME, self._folder):
            if part.is_symlink():
                raise RunError(f"{shown(part)} is a link.", "Links are not followed: remove it.")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._held = lock_folder(runs / HOME)
        if self._held is None:
            raise RunError(
                f"another page works on {shown(runs)}.", "Use that one, or end it first."
            )
        self._changing = threading.Lock()
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, name="evoken queue", daemon=True)

    def start(self) -> None:
        """Begin, or go on with, what waits."""
        for job in self.jobs():
            old = time.time() - (self.folder(job) / "job.json").stat().st_mtime > DRAFTS_LIVE
            if job.state == DRAFT and old:
                self.remove(job)
        self._thread.start()

    def close(self) -> None:
        """Interrupt what runs, as Ctrl-C does; what waits is still there for the next server."""
        self._ended.set()
        self._thread.join()
        if job := self.running():
            self._interrupt(job)
            until = time.monotonic() + PATIENCE
            while self._lives(job) and time.monotonic() < until:
                time.sleep(PAUSE)
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
        if self._held is not None:
            os.close(self._held)

    def add(
        self,
        title: str,
        arguments: Sequence[str],
        run: str = "",
        state: str = WAITING,
        urgent: bool = False,
        id: str = "",  # noqa: A002
    ) -> Job:
        """A new job, at the end of the queue.

        Args:
            id: of a folder that ``new_folder`` made and that holds the uploads.

        Raises:
            RunError: too many wait.
        """
        if sum(job.state == WAITING for job in self.jobs()) >= MOST_WAITING:
            raise RunError(f"{MOST_WAITING} jobs wait already.", "Wait for some of them.")
        job = Job(id or self.new_folder().name, title, tuple(arguments), run, state, urgent=urgent)
        self.keep(job)
        return job

    def new_folder(self) -> Path:
        """A folder for the uploads of a job that is to be added."""
        folder = self._folder / f"{time.time_ns():x}-{secrets.token_hex(4)}"
        folder.mkdir()
        return folder

    def keep(self, job: Job) -> None:
        """Write what has changed of a job."""
        write_job(self.folder(job), job)

    def folder(self, job: Job | str) -> Path:
        """Where a job is kept."""
        return self._folder / (job if isinstance(job, str) else job.id)

    def jobs(self) -> list[Job]:
        """All of them, in the order in which they are done."""
        found = []
        for folder in sorted(self._folder.iterdir()):
            with suppress(OSError, ValueError):  # of a folder that is being filled, or removed
                found.append(read_job(folder))
        return sorted(found, key=lambda job: (not job.urgent, job.id))

    def job(self, id: str) -> Job | None:  # noqa: A002
        """One of them; None if there is no such job."""
        return next((job for job in self.jobs() if job.id == id), None)

    def of_run(self, run: str) -> Job | None:
        """The job that works on a run folder, waits for it, or was given to it last."""
        its = (job for job in self.jobs() if job.run == run)
        alive = {RUNNING: 2, WAITING: 1}
        return max(its, key=lambda job: (alive.get(job.state, 0), job.id), default=None)

    def running(self) -> Job | None:
        """The one that runs."""
        return next((job for job in self.jobs() if job.state == RUNNING), None)

    def log(self, job: Job) -> list[str]:
        """The lines that its command has printed, the last ones of many."""
        try:
            with (self.folder(job) / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 16)))
                return file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []

    def reason(self, job: Job) -> str:
        """Why a job failed, in a sentence."""
        errors = [line[7:] for line in self.log(job) if line.startswith("error: ")]
        return one_line(errors[-1] if errors else "It ended without a word; its log may tell.")

    def stop(self, job: Job) -> None:
        """Interrupt a job as Ctrl-C does, or take it out of the queue."""
        with self._changing:
            now = self.job(job.id)
            if now and now.state == WAITING:
                self.keep(replace(now, state=STOPPED))
        if now and now.state == RUNNING:
            self._interrupt(now)

    def remove(self, job: Job) -> None:
        """Forget a job and its uploads; a job that runs stays."""
        if job.state != RUNNING:
            shutil.rmtree(self.folder(job), ignore_errors=True)

    def _work(self) -> None:
        pause = PAUSE
        while not self._ended.wait(pause):
            pause = PAUSE
            try:
                self._look()
            except (OSError, EvokenError):  # a full disk, or no process to be had: not for ever
                pause = AFTER_ERROR

    def _look(self) -> None:
        """Begin what waits if nothing runs."""
        if self._process and self._process.poll() is None:
            return
        if job := self.running():  # of a server before this one
            if not self._lives(job):
                self.keep(replace(job, state=STOPPED))
            return
        with self._changing:
            if job := next((j for j in self.jobs() if j.state == WAITING), None):
                self._process = self._begin(job)

    def _begin(self, job: Job) -> "subprocess.Popen[bytes]":
        """In a session of its own: it survives a server that is killed."""
        folder = self.folder(job)
        (folder / "stop").unlink(missing_ok=True)
        self.keep(replace(job, state=RUNNING))
        with (folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # which the process inherits
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "evoken.web.supervisor", str(folder), str(self.runs)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )

    def _lives(self, job: Job) -> bool:
        with (self.folder(job) / "lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _interrupt(self, job: Job) -> None:
        (self.folder(job) / "stop").touch()
