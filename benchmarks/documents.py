"""Put the measured figures into the documents that quote them.

    python -m benchmarks.documents [--check]

A quoted number is followed by a comment that names its figure: ``27.1<!-- stickers.psnr_db -->``;
the ends of an interval are written with ``low`` and ``high`` after the name, and after that shares
in percent with ``%``, and so many digits behind the point with a number. What stands between
``<!-- table learn -->`` and ``<!-- end -->`` is made of the ``learn.METHOD.COLUMN``, as are ``table
evidence``, ``table evidence.flow``, ``table editing`` and the like; ``table evidence.aims`` has the
figures of a contest beside their aims, ``table sizes`` models in full size. What stands between
``<!-- picture FILE: TEXT -->`` and ``<!-- end -->`` is the picture, once there is one. Of what was
not measured yet, a table says so.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import figures, sizes
from benchmarks.evidence import aims
from evoken.files import write_text

ROOT = Path(__file__).parent.parent
QUOTE = re.compile(
    r"(?P<number>[-\d.,?]+(?:e-\d+)?)"
    r"(?P<comment><!-- (?P<name>[\w.-]+)(?: (?P<end>low|high))?(?: (?P<digits>[%0-9]))? -->)"
)
COMMENT = re.compile(r"<!-- (?!end -->).*?-->")

TABLE = re.compile(r"(?P<head><!-- table (?P<name>[\w.]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
PICTURE = re.compile(
    r"(?P<head><!-- picture (?P<file>[\w/.-]+): (?P<text>.*?) -->\n).*?(?=<!-- end -->)", re.DOTALL
)
MISSING = "Not measured yet.\n"
# Column of the table: what its heading says, and how its numbers are written.
COLUMNS = {
    "n": ("runs", "{:.0f}"),
    "numbers": ("numbers", "{:,.0f}"),
    "calls": ("calls", "{:,.0f}"),
    "seconds": ("seconds", "{:,.0f}"),
    "loss": ("held-out loss", "{:.4f}"),
    "gain": ("share of the gradient's gain", "{:.2f}"),
    "judge": ("judge's share", "{:.2f}"),
    "elsewhere": ("judge's share elsewhere", "{:.2f}"),
    "imagenet": ("ImageNet concept", "{:.3f}"),
    "concept": ("concept", "{:.3f}"),
    "prompt": ("prompt", "{:.3f}"),
    "scene": ("scene", "{:.2f}"),
    "style": ("style", "{:.2f}"),
    "styled_thing": ("style on the right thing", "{:.2f}"),
    "both": ("two things", "{:.2f}"),
    "blue": ("itself in blue", "{:.2f}"),
    "diversity": ("diversity", "{:.3f}"),
    "object": ("object", "{:.2f}"),
    "colour": ("colour", "{:.2f}"),
    "outside": ("RMSE outside", "{:.1f}"),
    "beyond": ("beyond the autoencoder's", "{:.1f}"),
    "ssim": ("SSIM outside", "{:.3f}"),
    "pasted": ("RMSE outside, pasted", "{:.1f}"),
    "pasted_judge": ("judge's share, pasted", "{:.2f}"),
    "clip": ("CLIP", "{:.3f}"),
    "clip_inside": ("CLIP inside", "{:.3f}"),
    "clean": ("clean edits", "{:.2f}"),
    "reconstruction": ("reconstruction", "{:.3f}"),
    "editability": ("editability", "{:.3f}"),
    "norm": ("norm", "{:.2f}"),
    "megabytes": ("memory, MB", "{:,.0f}"),
    "distance": ("distance from the vocabulary", "{:.2f}"),
    "length": ("length by the vocabulary's", "{:.2f}"),
    "default_gain": ("the default's gain on the same runs", "{:.2f}"),
    "default_judge": ("and judge's share", "{:.2f}"),
}


def documents() -> list[Path]:
    """Every document that may quote figures."""
    cards = (ROOT / "evoken" / "models" / "weights").glob("*/README.md")
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(cards)]


def fill(text: str, known: dict[str, Any], folder: Path = ROOT / "docs") -> str:
    """The text with its quoted numbers as they were measured.

    Args:
        folder: of the document, where its pictures are sought.

    Raises:
        KeyError: a figure is unknown.
        ValueError: a comment is written in none of the ways above.
    """
    if left := COMMENT.findall(PICTURE.sub("", TABLE.sub("", QUOTE.sub("", text)))):
        raise ValueError(f"no figure is quoted by {left}")

    def written(match: re.Match[str]) -> str:
        value = known[match["name"]]
        number = value[match["end"] or "median"] if isinstance(value, dict) else value
        if match["digits"] == "%":
            shown = f"{100 * number:.0f}"
        elif match["digits"]:
            shown = f"{number:,.{match['digits']}f}"
        else:
            shown = f"{number:.3g}" if abs(number) < 100 else f"{number:,.0f}"
        return shown + match["comment"]

    def picture(match: re.Match[str]) -> str:
        there = (folder / match["file"]).exists()
        return match["head"] + (f"![{match['text']}]({match['file']})\n" if there else "")

    quoted = PICTURE.sub(picture, QUOTE.sub(written, text))
    return TABLE.sub(lambda match: match["head"] + table(match["name"], known), quoted)


def table(name: str, known: dict[str, Any]) -> str:
    """One row per method of a benchmark: those with the most clean edits, the most gain or the
    lowest loss first.
    """
    if name == "sizes":
        return sizes.table(known) or MISSING
    if name.endswith(".aims"):
        return aims.table(known, name.removesuffix(".aims")) or MISSING
    own = "|".join(column for column in COLUMNS if column != "megabytes")  # which is measured apart
    row = re.compile(rf"{re.escape(name)}\.(?P<method>[\w-]+)\.({own})")
    found = {match["method"] for match in map(row.fullmatch, known) if match}
    if not found:
        return MISSING
    its = {c: known for c in COLUMNS if any(f"{name}.{m}.{c}" in known for m in found)}
    rows = [["method", *(COLUMNS[c][0] for c in its)], ["---"] * (len(its) + 1)]

    def place(method: str) -> tuple[float, float, float, str]:
        clean, gain, loss = (
            known.get(f"{name}.{method}.{c}", 0.0) for c in ("clean", "gain", "loss")
        )
        return -clean, -gain, loss, method

    for method in sorted(found, key=place):
        values = {c: known.get(f"{name}.{method}.{c}") for c in its}
        cells = [_cell(value, COLUMNS[c][1]) for c, value in values.items()]
        rows.append([str(known.get(f"{name}.{method}.method", method)), *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(value: Any, form: str) -> str:
    """A number, with its interval if it has one."""
    if isinstance(value, dict):
        middle, low, high = (form.format(value[k]) for k in ("median", "low", "high"))
        return f"{middle} ({low} to {high})"
    return form.format(value) if value is not None else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if out of date")
    options = parser.parse_args()
    stale = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        filled = fill(text, figures.read(), path.parent)
        if filled != text:
            stale.append(str(path.relative_to(ROOT)))
            if not options.check:
                write_text(path, filled)
    if stale:
        print(f"{'out of date' if options.check else 'written'}: {', '.join(stale)}")
    return int(bool(stale) and options.check)


if __name__ == "__main__":
    sys.exit(main())
