"""``python -m evoken.web.supervisor JOB RUNS``: run the command of a job, and keep how it ended."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from evoken.web.job import DONE, FAILED, STOPPED, read_job, write_job

INTERRUPTED = (130, 143)  # exit codes of a command after Ctrl-C and SIGTERM
PAUSE = 0.1  # seconds between two looks
AGAIN = 10.0  # seconds after which Ctrl-C is repeated: one may get lost while Python starts


def main(folder: Path, runs: Path) -> None:
    """Run the job of a folder in the folder of the runs."""
    job, started = read_job(folder), time.monotonic()
    with (folder / "log.txt").open("wb") as log:  # of an earlier try, nothing is told any more
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "evoken", *job.arguments],
            cwd=runs,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Python's own handler of Ctrl-C, whatever the server was started with.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    asked = 0.0
    while process.poll() is None:
        time.sleep(PAUSE)
        if (folder / "stop").exists() and time.monotonic() - asked > AGAIN:
            process.send_signal(signal.SIGINT)
            asked = time.monotonic()
    code = process.returncode
    stopped = code in INTERRUPTED or (asked and code < 0)
    if code < 0 and not stopped:
        with (folder / "log.txt").open("a") as log:
            name = signal.Signals(-code).name
            log.write(f"\nerror: it was killed ({name}); a system short of memory does that.\n")
    state = DONE if code == 0 else STOPPED if stopped else FAILED
    seconds = job.seconds + time.monotonic() - started
    write_job(folder, replace(job, state=state, seconds=seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
