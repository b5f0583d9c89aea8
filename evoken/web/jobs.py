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
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from evoken.errors import RunError, one_line, shown
from evoken.files import lock_folder
from evoken.web.job import DRAFT, FILE, RUNNING, STOPPED, WAITING, Job, read_job, write_job

HOME = ".web"
PAUSE = 0.1  # seconds between two looks at the queue
AFTER_ERROR = 5.0  # seconds after which what failed in the queue itself is tried again
PATIENCE = 30.0  # seconds that a command has to write what it did when the server ends
MOST_WAITING = 100
DRAFTS_LIVE = 24 * 3600  # seconds


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
        self._read: dict[str, tuple[tuple[int, ...], Job]] = {}  # jobs as their files were
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, name="evoken queue", daemon=True)

    def start(self) -> None:
        """Begin, or go on with, what waits."""
        for job in self.jobs():
            old = time.time() - (self.folder(job) / FILE).stat().st_mtime > DRAFTS_LIVE
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
        values: Mapping[str, Any] | None = None,
    ) -> Job:
        """A new job, at the end of the queue.

        Args:
            id: of a folder that ``new_folder`` made and that holds the uploads.
            values: what the form held.

        Raises:
            RunError: too many wait.
        """
        if sum(job.state == WAITING for job in self.jobs()) >= MOST_WAITING:
            raise RunError(f"{MOST_WAITING} jobs wait already.", "Wait for some of them.")
        folder = id or self.new_folder().name
        job = Job(folder, title, tuple(arguments), run, state, values, urgent)
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
                found.append(self._job_of(folder))
        return sorted(found, key=lambda job: (not job.urgent, job.id))

    def _job_of(self, folder: Path) -> Job:
        """As ``read_job``, which is asked only where the file has changed: the queue is looked at
        ten times a second, and may hold years of work.
        """
        about = (folder / FILE).lstat()
        stamp = (about.st_mtime_ns, about.st_ino, about.st_size)
        found = self._read.get(folder.name)
        if found is None or found[0] != stamp:
            found = self._read[folder.name] = (stamp, read_job(folder))
        return found[1]

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
            self._read.pop(job.id, None)

    def _work(self) -> None:
        pause = PAUSE
        while not self._ended.wait(pause):
            pause = PAUSE
            try:
                self._look()
            except Exception:  # a full disk, no process to be had: not for ever, so it goes on
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
