"""The commands on many runs: runs and compare."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoken.cli.common import AsJson, Out, errors
from evoken.cli.options import flags, takes
from evoken.cli.terminal import with_flags
from evoken.errors import EvokenError, one_line

if TYPE_CHECKING:
    from evoken.run_folder import Summary

HEADS = (
    "run",
    "made by",
    "word or prompts",
    "model",
    "state",
    "calls",
    "loss",
    "gain",
    "score",
    "date",
)
WIDEST = 44  # letters of a cell


@takes()
def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that the runs are in.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List all runs in a folder: what they are about, how far they are, how good.

    The loss is the validation loss of the word; of inversions and edits, the lowest residual. The
    gain is how far a word's loss is below that of no word at all; unlike losses, gains of words
    from different pictures can be compared. The score is the concept score of a word's last
    preview; of edits, CLIP's agreement with the target.
    """
    out = Out(as_json)
    with errors():
        from evoken.run_folder import name_of, run_folders
        from evoken.summaries import summary

        rows: list[tuple[str, ...]] = [HEADS]
        listed, damaged = [], []
        for path in run_folders(folder):
            name = name_of(path) if path == folder else path.relative_to(folder).as_posix()
            try:
                found = summary(path)
            except EvokenError as error:
                reason = with_flags(one_line(str(error)), flags())
                damaged.append(f"{one_line(name)}: {reason}.")
                rows.append((name, "", "", "", "damaged", "", "", "", "", ""))
                listed.append({"run": path, "state": "damaged", "reason": reason})
            else:
                rows.append((name, *_cells(found)))
                listed.append({"run": path} | {k: _number(v) for k, v in asdict(found).items()})
        if len(rows) == 1:
            out.say(f"There are no runs in {folder}.")
        else:
            for line in _aligned(rows):
                out.say(line)
        for line in damaged:
            out.say(line)
        out.result(runs=listed)


def _cells(found: Summary) -> tuple[str, ...]:
    state = found.state
    if state != "finished":
        state += f" at {found.done:,} of {found.total:,} {found.unit}"
    loss = "" if found.loss is None else f"{found.loss:.4f}"
    gain = "" if found.gain is None else f"{found.gain:.4f}"
    score = "" if found.score is None else f"{found.score:.3f}"
    return (
        found.command,
        found.about,
        found.model,
        state,
        f"{found.calls:,}",
        loss,
        gain,
        score,
        found.date,
    )


def _number(value: Any) -> Any:
    """As JSON can hold it: a number of a damaged file may be none."""
    return value if not isinstance(value, float) or isfinite(value) else None


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines, every cell on one line and all of a column of one width."""
    cells = [[_cut(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    ]


def _cut(text: str) -> str:
    plain = one_line(text)
    return plain if len(plain) <= WIDEST else f"{plain[: WIDEST - 3]}..."


@takes()
def compare(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Two or more run folders of learn.")
    ],
    output: Annotated[Path, typer.Option(help="The page to write.")] = Path("compare.html"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite another file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show learned words side by side: pictures, curves, scores, settings that differ."""
    out = Out(as_json)
    with errors():
        from evoken.textual_inversion.compare import write_comparison

        write_comparison(paths, output, force)
        out.say(f"Look at {output}")
        out.result(page=output, runs=paths)
