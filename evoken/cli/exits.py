"""How a command may end."""

BAD_INPUT = 2
BUG, CANNOT_PRINT = 70, 74  # sysexits.h: EX_SOFTWARE and EX_IOERR
INTERRUPTED, TERMINATED = 130, 143  # 128 and the number of the signal


class Terminated(KeyboardInterrupt):  # as Python's own is called
    """SIGTERM, which ends a command as Ctrl-C does."""
