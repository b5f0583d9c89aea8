"""The program's edge: what no command has turned into a sentence becomes one here.

Nothing heavy is imported before ``main`` runs, so that Ctrl-C is heard from the beginning.
"""

import errno
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from evoken.cli.exits import BUG, CANNOT_PRINT, INTERRUPTED, code_of, hear, hear_no_more, heard

NOTHING_STARTED = "\nInterrupted. Nothing was started."


def main() -> None:
    """Entry point of the ``evoken`` command."""
    code = INTERRUPTED
    try:
        signals = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not with nohup
            signals.append(signal.SIGINT)
        for number in signals:
            signal.signal(number, hear)
        wait_briefly()
        from evoken.cli.app import app
        from evoken.quiet import quiet_process

        quiet_process()
        app(prog_name="evoken")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt as error:
        code = code_of(error)
        _say(NOTHING_STARTED)
    except Exception as error:
        code = code_of(error) if heard else _unforeseen(error)
    _end(code)


def wait_briefly() -> None:
    """Let threads of torch that wait for others spin for microseconds, not milliseconds, before
    they sleep: on a machine that does other work as well, spinning keeps those that they wait for
    from a core (``benchmarks.busy``). To be called before torch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "3000"  # of GNU's OpenMP, which torch has on Linux


def _end(code: int) -> NoReturn:
    """Leave with a code, after everything printed has arrived."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # such as | head: nobody reads on
        _close(sys.stdout.fileno())
    except OSError as error:
        code = _not_printed(error)
    hear_no_more()
    raise SystemExit(code)


def _close(stream: int) -> None:
    """Let Python's own last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _unforeseen(error: Exception) -> int:
    """Say what happened; returns the exit code."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return _not_printed(error)  # of files, a RunError says it
    from evoken.bugs import described, issues_page, write_log

    log = write_log(error)
    with_log = f" with its log, {log}," if log else ""
    _say(f"error: this is a bug of evoken ({described(error)}).")
    _say(f"Please report it{with_log}{issues_page()}.")
    return BUG


def _not_printed(error: OSError) -> int:
    from evoken.errors import reason_of

    _close(sys.stdout.fileno())
    _say(f"error: could not print: {reason_of(error)}. What was written to files is there.")
    return CANNOT_PRINT


def _say(text: str) -> None:
    with suppress(OSError):  # there may be nobody to tell
        print(text, file=sys.stderr)
