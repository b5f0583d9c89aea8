"""``evoken`` in-process, for the tests of its commands."""

import re
from pathlib import Path

from typer.testing import CliRunner, Result

from evoken.cli.app import app

SMALL = ("--popsize", "5", "--draws", "4", "--validation-draws", "8", "--calls", "128")
# Without the pictures along the way and in the report, which take five times as long as the rest.
QUICK = (*SMALL, "--samples", "0", "--preview-every", "0")
# With as few pictures as there can be of each kind. Fewer of a sentence take no less time: a model
# always computes 16 rows.
ONE_SENTENCE = ("--preview-prompt", "a {}", "--samples", "1")


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
