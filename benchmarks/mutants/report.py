"""The results of mutants: kept as they come, and made into figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import figures
from benchmarks.mutants.explained import why

if TYPE_CHECKING:
    from benchmarks.mutants.made import Mutant

RESULTS = Path(__file__).parent.with_suffix(".jsonl")
KILLED = ("killed", "slow")

Key = tuple[str, str, int]  # module, operator and occurrence


class Rows:
    """The results of a seed.

    Args:
        versions: of the modules; other results are out of date.
    """

    def __init__(self, file: Path, seed: int, versions: Mapping[str, str]) -> None:
        self._file, self._seed, self._versions = file, seed, versions
        self._rows: dict[Key, dict[str, Any]] = {}
        for row in figures.results(file):
            if row["seed"] == seed and row["version"] == versions.get(row["module"]):
                self._rows[row["module"], row["operator"], row["occurrence"]] = row

    def wants(self, mutant: Mutant, again: bool) -> bool:
        """Whether a mutant has to be tested; ``again``, if it has survived."""
        row = self._rows.get(_key(mutant))
        return row is None or (again and row["outcome"] not in KILLED)

    def of(self, mutants: Iterable[Mutant]) -> list[dict[str, Any]]:
        """The results of these mutants, of those that have one."""
        return [row for m in mutants if (row := self._rows.get(_key(m)))]

    def keep(self, mutant: Mutant, outcome: str, by: str, seconds: float) -> None:
        """Append a result, and say what survived."""
        row = {
            "seed": self._seed,
            "version": self._versions[mutant.module],
            "module": mutant.module,
            "operator": mutant.operator,
            "occurrence": mutant.occurrence,
            "line": mutant.line,
            "before": mutant.before,
            "after": mutant.after,
            "outcome": outcome,
            "by": by,
            "seconds": round(seconds, 1),
        }
        self._rows[_key(mutant)] = row
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        show([row])


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what survived and is not explained."""
    for row in rows:
        if row["outcome"] not in KILLED and not why(row):
            print(f"survived: evoken/{row['module']}, line {row['line']}")
            print(f"    - {row['before']}\n    + {row['after']}", flush=True)


def found(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of results."""
    survivors = [row for row in rows if row["outcome"] not in KILLED]
    return {
        "campaign.mutants": len(rows),
        "campaign.mutants_killed": round(1 - len(survivors) / max(1, len(rows)), 4),
        "campaign.mutants_survived": len(survivors),
        "campaign.mutants_explained": sum(bool(why(row)) for row in survivors),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print how many of each module's mutants were killed, and how many others are explained."""
    for module in dict.fromkeys(row["module"] for row in rows):
        its = found([row for row in rows if row["module"] == module])
        killed = its["campaign.mutants"] - its["campaign.mutants_survived"]
        explained = its["campaign.mutants_explained"]
        print(f"{module:40} {killed:3} of {its['campaign.mutants']:3}, {explained:2} explained")


def _key(mutant: Mutant) -> Key:
    return mutant.module, mutant.operator, mutant.occurrence
