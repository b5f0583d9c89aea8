"""Every editor on the same edits of fresh sticker pictures.

    python -m benchmarks.editing [--edits 208] [--tuning 64] [--methods NAME ...] [--sheet]

Settings are chosen on some edits and reported on others. Results are kept in
benchmarks/editing.jsonl as they come, and packed at the end; the same command goes on where it was,
and those of other weights are passed over. At the end stand the ``editing.*`` figures and
docs/sheets/editing.svg. ``--fresh`` measures the methods anew, as it must after they change;
``--report`` measures nothing; ``--forecast`` says how long the rest takes; ``--sheet`` draws every
ninth edit.
"""

import argparse
import os
import sys

from benchmarks import figures
from benchmarks.curves import curve_sheet
from benchmarks.editing import report, sheet
from benchmarks.editing.methods import METHODS, REFERENCES
from benchmarks.editing.work import (
    CHUNK,
    RESULTS,
    Variant,
    done,
    every_variant,
    forecast,
    forget,
    joined,
    planned,
    work,
)
from evoken.files import write_text

CURVES = figures.FILE.parent / "sheets" / "editing.svg"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=208, help="to report on")
    parser.add_argument("--tuning", type=int, default=64, help="other edits, to choose settings on")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one thread in each")
    parser.add_argument("--fresh", action="store_true", help="measure the methods anew")
    parser.add_argument("--report", action="store_true", help="of what there is")
    parser.add_argument("--forecast", action="store_true", help="say how long the rest takes")
    parser.add_argument("--sheet", action="store_true", help="draw the sheet of edits")
    options = parser.parse_args()
    if options.edits % CHUNK or options.tuning % CHUNK:
        parser.error(f"--edits and --tuning must be multiples of {CHUNK}")
    if options.fresh:
        forget(options.methods)
    tried = every_variant(dict.fromkeys([*REFERENCES, *options.methods]))
    if options.forecast:
        return say(options, tried)
    if not options.report:
        work(planned(tried, "tuning", options.tuning, done()), options.processes)
        selected = [v for v in selection(options) if v in tried]
        work(planned(selected, "report", options.edits, done()), options.processes)
    finish(options)
    return 0


def tuned(options: argparse.Namespace) -> report.Measured:
    """The edits to tune on."""
    return report.Measured(dict(joined(done(), every_variant(METHODS), "tuning", options.tuning)))


def selection(options: argparse.Namespace) -> list[Variant]:
    """What is reported, by what has been measured on all edits to tune on."""
    on = tuned(options)
    return report.chosen(on, report.default_calls(on))


def finish(options: argparse.Namespace) -> None:
    """Figures, curves and, if asked for, the sheet."""
    rows = dict(joined(done(), selection(options), "report", options.edits))
    found = report.Report(tuned(options), report.Measured(rows))
    figures.update(found.found(), instead_of="editing.")
    write_text(CURVES, curve_sheet(*found.curves()))
    figures.pack(RESULTS)
    if options.sheet:
        sheet.draw(found.best_rival())


def say(options: argparse.Namespace, tried: list[Variant]) -> int:
    """How long the rest takes."""
    tuning = planned(tried, "tuning", options.tuning, done())
    selected = tried if tuning else [v for v in selection(options) if v in tried]
    reported = planned(selected, "report", options.edits, done())
    try:
        hours = [forecast(jobs, figures.results(RESULTS)) for jobs in (tuning, reported)]
    except ValueError as error:
        print(f"There is no forecast: {error}.")
        return 1
    most = "at most " if tuning else ""
    print(f"Tuning takes {hours[0]:.1f} hours of a core, the report {most}{hours[1]:.1f}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
