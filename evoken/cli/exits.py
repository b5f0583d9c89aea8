"""How a command may end."""

import signal
import threading
from contextlib import suppress
from types import FrameType

BAD_INPUT = 2
BUG, CANNOT_PRINT = 70, 74  # sysexits.h: EX_SOFTWARE and EX_IOERR
INTERRUPTED, TERMINATED = 130, 143  # 128 and the number of the signal


class Terminated(KeyboardInterrupt):  # as Python's own is called
    """SIGTERM, which ends a command as Ctrl-C does."""


SOON = 0.05  # seconds until a signal that came during an import is looked at again

heard: list[int] = []  # the signals that asked this process to end
_waiting: list[int] = []  # one that came during an import


def hear(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT and SIGTERM. What is raised here may come out as something else: a library may
    make an error of its own of it.

    While something is imported nothing is raised until that is done: an exception within the
    compiled code of a library aborts the process.
    """
    heard.append(number)
    if _imports(frame):
        if not _waiting:  # who presses Ctrl-C twice wants one end
            _waiting.append(number)
            again = threading.Timer(SOON, _again, (threading.get_ident(),))
            again.daemon = True
            again.start()
        return
    _waiting.clear()
    if number == signal.SIGTERM:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what follows cleans up
        raise Terminated
    raise KeyboardInterrupt


def hear_no_more() -> None:
    """Give signals that are handled here back to the system: nothing is left to clean up."""
    _waiting.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is hear:  # what nohup ignores stays ignored
            signal.signal(number, signal.SIG_DFL)


def _again(thread: int) -> None:
    """Send the signal that came during an import once more, unless it was heard since."""
    with suppress(IndexError):
        signal.pthread_kill(thread, _waiting.pop())


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
