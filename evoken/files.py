"""Files that are whole or absent: written beside their place, then moved there."""

import csv
import errno
import fcntl
import glob
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evoken.errors import RunError, reason_of, shown

UMASK = os.umask(0o077)  # can only be read by setting it
os.umask(UMASK)
LONGEST = 255  # bytes of a name, on every file system that is in use


def shortened(name: str, most: int = 100) -> str:
    """The beginning of a name, of whole letters and at most so many bytes."""
    return os.fsencode(name)[:most].decode(errors="ignore")


def check_can_write(path: Path, fix: str = "Choose another place.") -> None:
    """Raise ``RunError`` unless a file or folder could be written at ``path``; nothing is left.

    Permissions alone do not tell: they say nothing of read-only disks, nor to the superuser.
    """
    try:
        with suppress(FileNotFoundError):
            os.lstat(path)
        if any(len(os.fsencode(part)) > LONGEST for part in path.parts):  # below what is missing
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        places = (path.absolute(), *path.absolute().parents)
        there = next(place for place in places if os.path.lexists(place))
        with tempfile.TemporaryFile(dir=there if there.is_dir() else there.parent):
            pass
    except (OSError, ValueError) as error:
        raise RunError(f"could not write {shown(path)}: {reason_of(error)}.", fix) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write atomically; what was there stays until the new content is complete.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=_hidden(path))
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~UMASK)
        os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:  # also after Ctrl-C
        if partial:
            Path(partial).unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which stands at ``path`` when the block ends, and nowhere if it fails.

    Args:
        path: where nothing is yet, or an empty folder.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    partial = lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{glob.escape(_hidden(path))}????????"):
            remove_abandoned(left)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=_hidden(path)))
        lock = lock_folder(partial)
        yield partial
        partial.chmod(0o777 & ~UMASK)
        os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error, "choose another folder with `output`") from error
    finally:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_partial(folder: Path) -> None:
    """Remove the files that a process which was killed has left half-written below a folder.

    Args:
        folder: where no other process writes.
    """
    for file in folder.rglob(".*.????????"):
        if file.is_file() and not file.is_symlink():
            file.unlink(missing_ok=True)


def lock_folder(folder: Path) -> int | None:
    """A lock on a folder, which ends with this process; None if another has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        pass  # some network file systems have no locks
    return handle


def remove_abandoned(folder: Path) -> None:
    """Remove a folder that was locked by a process that is no more; another stays."""
    if folder.is_symlink() or not folder.is_dir():
        return
    if (lock := lock_folder(folder)) is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _hidden(path: Path) -> str:
    """How the name begins under which something is made: short, as a name may be the longest."""
    return f".{path.name[:40]}."


def cannot_write(path: Path, error: OSError, other: str = "make it writable") -> RunError:
    """The error for a full or read-only disk.

    Args:
        other: what can be done where space is not the matter.
    """
    return RunError(
        f"could not write {shown(path)}: {reason_of(error)}.",
        f"Free some space, or {other}; what was there is unchanged.",
    )


def write_text(path: Path, content: str) -> None:
    """Write text atomically as UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable and with sorted keys."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, at least one, as a table with their keys for a head; None is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def above(folder: Path) -> Path:
    """The folder that a folder is in: ``Path(".").parent`` is "." again."""
    return Path(os.path.normpath(folder / ".."))
