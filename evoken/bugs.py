"""The log of an error that nobody foresaw: what its mending needs, and nothing personal."""

import platform
import re
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from evoken.cache import cache_root
from evoken.errors import one_line
from evoken.version import __version__


def described(error: BaseException) -> str:
    """The kind of an error and where it was raised, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "evoken" in Path(f.filename).parts]
    place = f" in {_short(ours[-1].filename)}, line {ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}{place}"


def issues_page() -> str:
    """The end of a sentence that names it; "" where the package was not installed."""
    with suppress(PackageNotFoundError):
        for entry in metadata("evoken").get_all("Project-URL") or ():
            name, _, address = entry.partition(", ")
            if name == "Issues":
                return f" on {address}"
    return ""


def write_log(error: BaseException) -> Path | None:
    """Write the traceback to the cache; returns the file, or None if it cannot be written."""
    now = datetime.now(UTC)
    lines = [
        f"evoken {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"command: {_command()}",
        *_traceback(error),
    ]
    file = cache_root() / "bugs" / f"{now:%Y-%m-%d-%H%M%S-%f}.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError:
        return None
    return file


def _command() -> str:
    """The words of the command line that are commands and options; values may be personal."""
    words = sys.argv[1:]
    known = [w.partition("=")[0] for w in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", w)]
    return " ".join(["evoken", *[w for w in words[:1] if w.isidentifier()], *known])


def _traceback(error: BaseException) -> list[str]:
    """Kinds of errors and places in code, innermost last; messages without paths."""
    lines = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        lines += [*_traceback(cause), "which led to:"]
    for frame in traceback.extract_tb(error.__traceback__):
        lines.append(f"  {_short(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line}")
    return [*lines, f"{type(error).__name__}: {_without_paths(str(error))}"]


def _short(file: str) -> str:
    """A source file from its package on."""
    parts = Path(file).parts
    for mark in ("site-packages", "dist-packages"):
        if mark in parts:
            return "/".join(parts[parts.index(mark) + 1 :])
    return "/".join(parts[parts.index("evoken") :] if "evoken" in parts else parts[-1:])


def _without_paths(message: str) -> str:
    return one_line(re.sub(r"(?:~|[A-Za-z]:)?[\\/][^\s'\",:;()]+", "PATH", message), 500)
