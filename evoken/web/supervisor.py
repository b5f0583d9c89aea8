"""``python -m evoken.web.supervisor JOB RUNS``: run the command of a job, and keep how it ended."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from evoken.web.jobs import DONE, FAILED, STOPPED, read_job, write_job

INTERRUPTED = (130, 143)  # exit codes of a command after Ctrl-C and SIGTERM


def main(folder: Path, runs: Path) -> None:
    """Run the job of a folder in the folder of the runs."""
    with (folder / "lock").open("ab") as lock, (folder / "log.txt").open("ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        job, started = read_job(folder), time.monotonic()
        asked: list[int] = []
        child: list[subprocess.Popen[bytes]] = []

        def interrupt(number: int, frame: FrameType | None) -> None:
            asked.append(number)
            for process in child:
                process.send_signal(number)

        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, interrupt)
        child.append(
            subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "evoken", *job.arguments],
                cwd=runs,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Python's own handler of Ctrl-C, whatever the server was started with.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        )
        if asked:  # before there was a child
            child[0].send_signal(asked[-1])
        code = child[0].wait()
        stopped = code in INTERRUPTED or (asked and code < 0)
        state = DONE if code == 0 else STOPPED if stopped else FAILED
        seconds = job.seconds + time.monotonic() - started
        write_job(folder, replace(job, state=state, pid=0, seconds=seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
