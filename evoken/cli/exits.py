"""How a command may end."""

import signal
from types import FrameType
from typing import NoReturn

BAD_INPUT = 2
BUG, CANNOT_PRINT = 70, 74  # sysexits.h: EX_SOFTWARE and EX_IOERR
INTERRUPTED, TERMINATED = 130, 143  # 128 and the number of the signal


class Terminated(KeyboardInterrupt):  # as Python's own is called
    """SIGTERM, which ends a command as Ctrl-C does."""


heard: list[int] = []  # the signals that asked this process to end


def hear(number: int, frame: FrameType | None) -> NoReturn:
    """Handle SIGINT and SIGTERM. What is raised here may come out as something else: a library that
    is being imported makes an error of its own of it.
    """
    heard.append(number)
    if number == signal.SIGTERM:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what follows cleans up
        raise Terminated
    raise KeyboardInterrupt


def code_of(error: BaseException) -> int:
    """The exit code of a command that was interrupted."""
    asked = isinstance(error, Terminated) or signal.SIGTERM in heard
    return TERMINATED if asked else INTERRUPTED
