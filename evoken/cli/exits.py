"""How a command may end."""

import signal
import threading
from types import FrameType

BAD_INPUT = 2
BUG, CANNOT_PRINT = 70, 74  # sysexits.h: EX_SOFTWARE and EX_IOERR
INTERRUPTED, TERMINATED = 130, 143  # 128 and the number of the signal


class Terminated(KeyboardInterrupt):  # as Python's own is called
    """SIGTERM, which ends a command as Ctrl-C does."""


SOON = 0.05  # seconds until a signal that came during an import is looked at again

heard: list[int] = []  # the signals that asked this process to end


def hear(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT and SIGTERM. What is raised here may come out as something else: a library that
    makes an error of its own of whatever happens to it.

    While something is imported nothing is raised until that is done: an exception within the
    compiled code of a library aborts the process.
    """
    heard.append(number)
    if _imports(frame):
        again = threading.Timer(SOON, signal.pthread_kill, (threading.get_ident(), number))
        again.daemon = True
        again.start()
        return
    if number == signal.SIGTERM:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what follows cleans up
        raise Terminated
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether the frame is within an import statement."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def code_of(error: BaseException) -> int:
    """The exit code of a command that was interrupted."""
    asked = isinstance(error, Terminated) or signal.SIGTERM in heard
    return TERMINATED if asked else INTERRUPTED
