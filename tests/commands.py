"""``evoken`` in-process, for the tests of its commands."""

import re
from pathlib import Path

from typer.testing import CliRunner, Result

from evoken.cli.app import app

SMALL = ("--popsize", "5", "--draws", "4", "--validation-draws", "8", "--calls", "128")


def evoken(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(result: Result, *words: str) -> None:
    """One clear line in the command's own words, exit code 2, no traceback."""
    assert result.exit_code == 2, result.output
    assert re.fullmatch(r"error: [^`\n]+\n", result.stderr), result.stderr
    for word in words:
        assert word in result.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
