"""The README's commands, run for real, in the order in which a reader would type them."""

import math
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evoken import progress
from evoken.cli.app import app
from evoken.pictures.drawing import Pictures

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shape(text: str) -> list[str]:
    """Lines with every number replaced: timings and last digits differ between machines."""
    lines = re.sub(r"\d[\d,.]*", "0", text).splitlines()
    return [" ".join(line.split()) for line in lines if line.strip()]


def numbers(table: str, row: str) -> list[float]:
    """Values, and the ends of their intervals, from left to right."""
    (cells,) = re.findall(rf"^{row} (.*)$", table, re.MULTILINE)
    return [float(number) for number in re.findall(r"-?\d+\.\d+", cells)]


def sessions() -> list[tuple[str, str]]:
    """Each command after a ``$``, with the output that the README shows for it."""
    parts = [p for b in blocks("console") for p in re.split(r"^\$ ", b, flags=re.MULTILINE)[1:]]
    return [(command, output) for command, _, output in (p.partition("\n") for p in parts)]


def test_the_commands_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "QUIET", math.inf)  # slow machines print more lines
    assert len(sessions()) >= 6
    printed = {}
    for command, output in sessions():
        program, *arguments = shlex.split(command)
        assert program == "evoken"
        result = CliRunner().invoke(app, arguments, prog_name="evoken")
        assert result.exit_code == 0, result.output
        assert shape(result.output) == shape(output), command
        printed[arguments[0]] = result.output
    # What is shown is no luck: the thing, which the model was never shown, is learned.
    (gain, *_) = numbers(printed["evaluate"], "gain over no word")
    start, _, _, learned, _, _ = numbers(printed["evaluate"], "judge: recognised")
    assert gain > 0.02 and learned - start > 0.2
    assert (tmp_path / "runs" / "otter" / "report.html").stat().st_size > 10_000


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = (b for b in blocks("python") if "import evoken" in b)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    short = example.replace(
        'placeholder="<otter>"',
        'placeholder="<otter>", calls=700, preview_prompts=("a {}",), samples=1',
    )
    assert short != example
    names: dict[str, object] = {}
    exec(short, names)
    pictures = names["pictures"]
    assert isinstance(pictures, Pictures)
    assert pictures.images.shape == (4, 3, 64, 64)
    assert len(list(Path("pictures").glob("*.png"))) == 5


def test_make_commands_are_those_of_the_makefile_and_ci() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`?make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {"test", "lint", "docs", "package"} <= set(
        " ".join(re.findall(r"^make (.*)", ci, re.MULTILINE)).split()
    )
