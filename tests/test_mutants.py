"""The parts of ``make mutants`` that need no mutants: these are made by cosmic-ray, which tests do
without.
"""

from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.mutants.reach import reach
from benchmarks.mutants.report import Rows, found
from benchmarks.mutants.tests import TESTS

ROOT = Path(__file__).parent.parent

SOURCE = dedent("""\
    LIMIT = 3

    def half(x: int, by: int = 2) -> int:
        if (
            x > LIMIT
        ):
            return x // by
        try:
            return check(x)
        except ValueError:
            return 0

    class Thing:
        size = 1

        def grow(self) -> None:
            self.size += 1
    """)
EXECUTED = {
    "large": [3, 4, 5, 7],
    "small": [3, 4, 5, 8, 9],
    "bad": [3, 4, 9, 10, 11],
    "thing": [17],
}


@pytest.mark.parametrize(
    ("line", "tests"),
    [
        (1, {"large", "small", "bad", "thing"}),  # of the module
        (3, {"large", "small", "bad"}),  # a function's header
        (6, {"large", "small", "bad"}),  # within a condition
        (7, {"large"}),
        (9, {"small", "bad"}),
        (10, {"bad"}),
        (14, {"large", "small", "bad", "thing"}),  # of a class
        (17, {"thing"}),
    ],
)
def test_a_fault_concerns_the_tests_that_execute_its_statement(line: int, tests: set[str]) -> None:
    assert reach(SOURCE, line, EXECUTED) == tests


def mutant(occurrence: int) -> Any:
    return SimpleNamespace(
        module="files.py", operator="Not", occurrence=occurrence, line=1, before="a", after="b"
    )


def test_results_are_kept_and_hold_for_a_module_as_it_is(tmp_path: Path) -> None:
    file, versions = tmp_path / "mutants.jsonl", {"files.py": "1"}
    rows = Rows(file, 0, versions)
    rows.keep(mutant(0), "killed", "test_a", 1.0)
    rows.keep(mutant(1), "survived", "", 1.0)
    again = Rows(file, 0, versions)
    assert [again.wants(mutant(i), again=False) for i in range(3)] == [False, False, True]
    assert [again.wants(mutant(i), again=True) for i in range(3)] == [False, True, True]
    assert len(again.of(map(mutant, range(3)))) == 2
    again.keep(mutant(1), "slow", "", 1.0)
    assert not Rows(file, 0, versions).wants(mutant(1), again=True)
    for seed, version in ((1, "1"), (0, "2")):
        assert Rows(file, seed, {"files.py": version}).wants(mutant(0), again=False)


def test_figures_are_shares_of_all_that_ran() -> None:
    outcomes = ("killed", "killed", "slow", "survived", "survived")
    rows = [{"module": "files.py", "before": "a", "after": "b", "outcome": o} for o in outcomes]
    declared = {"before": "@dataclass(frozen=True)", "after": "@dataclass(frozen=False)"}
    rows.append({"module": "files.py", "outcome": "survived", **declared})
    its = found(rows)
    assert its["campaign.mutants"] == 6 and its["campaign.mutants_killed"] == 0.5
    assert (its["campaign.mutants_survived"], its["campaign.mutants_explained"]) == (3, 1)


def test_the_tests_of_every_module_are_there() -> None:
    for module, names in TESTS.items():
        assert (ROOT / "evoken" / module).is_file()
        assert names and all((ROOT / f"tests/test_{name}.py").is_file() for name in names)
