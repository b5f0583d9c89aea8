"""The cache of exported denoisers: one folder each, whole or not there."""

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from evoken.documents import read_json
from evoken.errors import SettingError, reason_of, shown
from evoken.files import lock_folder, remove_abandoned, write_json

ABOUT = "entry.json"


@dataclass(frozen=True)
class Check:
    """How far a runtime's outputs are from those of torch in float32, on the same inputs.

    Attributes:
        runtime: its name.
        largest: the largest difference of two numbers.
        rms: root mean square of torch's outputs.
    """

    runtime: str
    largest: float
    rms: float

    def __str__(self) -> str:
        return (
            f"{self.runtime} differs from torch by at most {self.largest:.1e} "
            f"({self.largest / self.rms:.1e} of the outputs' size)"
        )


def read_entry(folder: Path) -> Check | None:
    """What was found when the entry was made; None if it is not there or not as it was written."""
    try:
        about = read_json(folder / ABOUT)
        whole = about["files"] == _digests(folder)
        return Check(**about["check"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_entry(folder: Path, fill: Callable[[Path], Check]) -> Check:
    """Make an entry, or make it anew; it appears when ``fill`` has written its files and found
    them good, and not at all if that fails.

    Raises:
        SettingError: the cache cannot be written.
    """
    partial = lock = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
            remove_abandoned(left)  # of a process that was killed
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        lock = lock_folder(partial)
        check = fill(partial)
        write_json(partial / ABOUT, {"check": asdict(check), "files": _digests(partial)})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
        return check
    except OSError as error:
        if read_entry(folder) is not None:  # another process was faster
            return check
        raise SettingError(
            f"could not write the cache folder {shown(folder.parent)}: {reason_of(error)}.",
            "Set EVOKEN_CACHE to another folder.",
        ) from error
    finally:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of an entry but the one that tells about it."""
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.name != ABOUT):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
