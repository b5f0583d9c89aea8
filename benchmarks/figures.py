"""The figures that README and docs quote: ``docs/figures.json``, written by benchmarks alone."""

import fcntl
import gzip
import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evoken.files import write_bytes, write_json

FILE = Path(__file__).parent.parent / "docs" / "figures.json"


def read() -> dict[str, Any]:
    """All figures: name to number, or to {"median", "low", "high", "n"}."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def results(path: Path) -> list[dict[str, Any]]:
    """The lines of a benchmark's file of results, as they came, those that were packed first; none
    if there is no file.
    """
    there = [gzip.decompress(_packed(path).read_bytes())] if _packed(path).exists() else []
    there += [path.read_bytes()] if path.exists() else []
    return [json.loads(line) for lines in there for line in lines.decode().splitlines()]


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add results to a benchmark's file of them."""
    with _alone(path), path.open("ab") as file:
        file.write(_lines(rows))


def pack(path: Path) -> None:
    """Make the file of results a tenth as large: it is in the repository."""
    with _alone(path):
        write_bytes(_packed(path), gzip.compress(_lines(results(path)), mtime=0))
        path.unlink(missing_ok=True)


def keep(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Take all other results of a benchmark out of its files."""
    with _alone(path):
        write_bytes(path, _lines([row for row in results(path) if wanted(row)]))
        _packed(path).unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process changes the results meanwhile: two commands may measure at once."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _packed(path: Path) -> Path:
    return path.with_suffix(path.suffix + ".gz")


def _lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def update(found: dict[str, Any], instead_of: str | tuple[str, ...] = ()) -> None:
    """Print the figures and put them among the others.

    Args:
        instead_of: what the names of earlier figures begin with that are no longer true.
    """
    for name, value in found.items():
        print(f"{name:36} {value}")
    kept = {name: value for name, value in read().items() if not name.startswith(instead_of)}
    write_json(FILE, kept | found)


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Median and range of repeated measurements."""
    return interval(statistics.median(values), min(values), max(values), len(values), digits)


def interval(value: float, low: float, high: float, n: int, digits: int = 4) -> dict[str, float]:
    """A figure of ``n`` measurements or concepts, with its ends."""
    return {
        "median": round(value, digits),
        "low": round(low, digits),
        "high": round(high, digits),
        "n": n,
    }
