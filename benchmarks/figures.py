"""The figures that README and docs quote: ``docs/figures.json``, written by benchmarks alone."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evoken.files import write_json

FILE = Path(__file__).parent.parent / "docs" / "figures.json"


def read() -> dict[str, Any]:
    """All figures: name to number, or to {"median", "low", "high", "n"}."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def results(path: Path) -> list[dict[str, Any]]:
    """The lines of a benchmark's file of results, as they came; none if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add results to a benchmark's file of them."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def update(found: dict[str, Any]) -> None:
    """Print the figures and put them among the others."""
    for name, value in found.items():
        print(f"{name:36} {value}")
    write_json(FILE, read() | found)


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Median and range of repeated measurements."""
    return {
        "median": round(statistics.median(values), digits),
        "low": round(min(values), digits),
        "high": round(max(values), digits),
        "n": len(values),
    }
