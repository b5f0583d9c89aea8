"""What errors say: foreign values in them, and the command line's words for settings."""

from pathlib import Path

import pytest
import typer

from evoken.cli.app import app
from evoken.cli.options import flags_of
from evoken.cli.terminal import with_flags
from evoken.errors import EvokenError, SettingError, one_line, reason_of, shown


def test_an_error_is_its_problem_and_its_fix() -> None:
    error = SettingError("`popsize` must be at least 4 (got 2).", "Raise it.")
    assert str(error) == "`popsize` must be at least 4 (got 2). Raise it."
    assert (error.problem, error.fix) == error.args
    assert str(EvokenError("nothing is left.")) == "nothing is left."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a cat", "'a cat'"),
        (2, "2"),
        (Path("a b/c.png"), "a b/c.png"),
        (Path("\x1b[31m.png"), "?[31m.png"),
        (Path("x" * 100), "x" * 100),
        ("\x1b[31mred\n", "'\\x1b[31mred\\n'"),
        ("a `name`", "'a 'name''"),
        ("x" * 100, f"'{'x' * 55}...'"),
        ([1] * 100, "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1...]"),
    ],
)
def test_foreign_values_are_short_and_harmless(value: object, text: str) -> None:
    assert shown(value) == text
    assert isinstance(value, Path) or len(text) <= 60


def test_reasons_are_one_line_for_the_end_of_a_sentence() -> None:
    assert reason_of(OSError(28, "No space left on device")) == "no space left on device"
    assert reason_of(ValueError("Bad `x`.\nMore")) == "Bad 'x'"
    assert reason_of(ValueError()) == "ValueError"
    assert one_line("") == "" and len(one_line("x" * 999)) == 200


def test_names_in_backticks_become_flags() -> None:
    message = "`t_low` must be below `t_high` (got 0.9 and 0.2). Leave out `eta` or '`'."
    flags = {"t_low": "--t-low", "t_high": "--t-high"}
    expected = "--t-low must be below --t-high (got 0.9 and 0.2). Leave out eta or '`'."
    assert with_flags(message, flags) == expected


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (
            "learn",
            {
                "popsize": "--popsize",
                "t_low": "--t-low",
                "name": "--model",
                "config": "--model-config",
                "mistakes": "--mistake",
                "placeholder": "--word",
                "images": "IMAGES",
            },
        ),
        ("edit", {"source": "--from", "target": "--to", "source_guidance": "--source-guidance"}),
        ("convert", {"tool": "--to", "path": "WORD", "force": "--force"}),
        ("pick", {"number": "NUMBER"}),
    ],
)
def test_settings_go_by_the_flags_of_their_command(command: str, flags: dict[str, str]) -> None:
    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    assert flags.items() <= flags_of(typer.Context(found)).items()
