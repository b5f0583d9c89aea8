"""The results of the campaign: kept as they come, and made into figures."""

import fcntl
import json
from pathlib import Path
from typing import Any

from benchmarks import figures

RESULTS = Path(__file__).parent.with_suffix(".jsonl")
KILLS, INPUTS = 300, 5000  # that the figures are made of at least
SOAK = "campaign.soak_megabytes_per_hour"
COUNTED = ("tracebacks", "silent", "over_memory", "over_time", "left")


def keep(file: Path, row: dict[str, Any]) -> None:
    """Append a result; several processes may."""
    with file.open("a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write(json.dumps(row) + "\n")


def rows(file: Path, seed: int) -> list[dict[str, Any]]:
    """The results of a seed."""
    return [r for r in figures.results(file) if r["seed"] == seed]


def found(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of results."""
    chains = [r for r in results if r["kind"] == "kills"]
    inputs = [r for r in results if r["kind"] not in ("kills", "soak")]
    soaks = [r["megabytes_per_hour"] for r in results if r["kind"] == "soak"]
    counts = {
        "campaign.kills": sum(r["kills"] for r in chains),
        "campaign.kills_lost": sum(bool(r["problems"]) for r in chains),
        "campaign.inputs": len(inputs),
    }
    counts |= {f"campaign.{n}": sum(n in r.get("found", {}) for r in inputs) for n in COUNTED}
    return counts | ({SOAK: soaks[-1]} if soaks else {})


def publish(results: list[dict[str, Any]]) -> None:
    """Write the figures and pack the results if the campaign is whole; else say what is missing."""
    its = found(results)
    whole = its["campaign.kills"] >= KILLS and its["campaign.inputs"] >= INPUTS
    if whole and SOAK in its:
        figures.update(its)
        figures.pack(RESULTS)
        return
    show(its)
    print("The campaign is not whole yet: the same command goes on.")


def show(its: dict[str, Any]) -> None:
    for name, value in its.items():
        print(f"{name:36} {value}")
