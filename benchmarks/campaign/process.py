"""Commands in processes of their own, which are measured, killed, and looked for afterwards."""

import atexit
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL = 0.01  # seconds
PATIENCE = 20.0  # seconds in which everything that a command has started must have ended
RUN_COMMAND = "from evoken.cli import main; main()"
LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code, or minus the number of the signal that it died of.
        seconds: how long it ran.
        megabytes: by how much its memory grew at most, beyond what the libraries take.
        printed, said: what it wrote to stdout and stderr.
    """

    code: int
    seconds: float
    megabytes: float
    printed: str
    said: str


class Command:
    """``evoken`` with arguments: forked from this process, which has imported everything and
    computed nothing, or as a new process that begins with the imports.

    Args:
        case: a folder; the command works in ``here`` in it.
        new: whether it is a new process.
        environment: further variables.
    """

    def __init__(
        self,
        arguments: list[str],
        case: Path,
        new: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._case, self._status = case, None
        variables = {"EVOKEN_CACHE": str(case / "cache"), **(environment or {})}
        (case / "here").mkdir(parents=True, exist_ok=True)
        self._before, self._started = _resident(), time.monotonic()
        self._ended = 0.0
        self._code, self._peak = 0, 0.0
        self.pid = os.fork()
        if self.pid == 0:
            _become(arguments, case, new, variables)

    def wait(self, seconds: float, most_megabytes: float = 4000.0) -> bool:
        """Whether it ended within so many seconds; it is killed beyond so much memory."""
        until = time.monotonic() + seconds
        while not self._ended:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._ended = time.monotonic()
                self._code = os.waitstatus_to_exitcode(status)
                self._peak = usage.ru_maxrss / 1024
                break
            if time.monotonic() > until:
                return False
            if _resident(self.pid) - self._before > most_megabytes:
                self.send(signal.SIGKILL)
            time.sleep(POLL)
        return True

    def send(self, number: int, to_group: bool = False) -> None:
        """A signal to the process, or to it and its children, as Ctrl-C in a terminal."""
        with suppress(ProcessLookupError):
            (os.killpg if to_group else os.kill)(self.pid, number)

    def end(self, seconds: float) -> Ended:
        """How it ended; after so many seconds it is killed."""
        if not self.wait(seconds):
            self.send(signal.SIGKILL)
            self.wait(60)
        return Ended(
            self._code,
            round(self._ended - self._started, 3),
            round(max(0.0, self._peak - self._before), 1),
            _text(self._case / "stdout"),
            _text(self._case / "stderr"),
        )


def _become(arguments: list[str], case: Path, new: bool, variables: dict[str, str]) -> NoReturn:
    """In the child: the command, and never back."""
    code = 1
    try:
        end_with_parent()
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(case / "here")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(case / "stdout", flags), 1)
        os.dup2(os.open(case / "stderr", flags), 2)
        os.environ.update(variables)
        if new:
            os.environ["PYTHONPATH"] = str(ROOT)
            os.execv(sys.executable, [sys.executable, "-c", RUN_COMMAND, *arguments])
        sys.argv = ["evoken", *arguments]
        sys.modules["__main__"] = ModuleType("__main__")  # or workers would import the campaign
        import torch

        torch.set_num_threads(1)
        from evoken.cli import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:  # before the command's first line
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives that computes, in a forked process; it must be JSON.

    Raises:
        RuntimeError: it failed.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            end_with_parent()
            os.close(reading)
            import torch

            torch.set_num_threads(1)
            with os.fdopen(writing, "w") as stream:
                json.dump(function(*arguments), stream)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            _leave(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"{function.__name__} failed")
    return json.loads(text)


def _leave(code: int) -> NoReturn:
    """As an interpreter does at its end, but without the frames of the one it was forked from."""
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def end_with_parent() -> None:
    """This process is killed when the one that has forked it ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt() -> None:
    """Orphans of the commands that this process starts become its own children from now on."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)


def left_over(patience: float = PATIENCE) -> list[str]:
    """The names of the processes that commands have left behind, after some seconds in which they
    may end; then they are killed.
    """
    names: list[str] = []
    until = time.monotonic() + patience
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return names
        if pid == 0:
            if time.monotonic() > until:
                for child in _children():
                    names.append(_text(Path(f"/proc/{child}/cmdline")).replace("\0", " ")[:80])
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                until = time.monotonic() + 1  # their children come to us next
            time.sleep(POLL)


def _children() -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(file.parent.name))
    return found


def _resident(pid: int | str = "self") -> float:
    """Megabytes that a process holds; 0 if it is no more."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20
    return 0.0


def _text(file: Path) -> str:
    with suppress(OSError):
        return file.read_bytes()[:100_000].decode("utf-8", "replace")
    return ""
