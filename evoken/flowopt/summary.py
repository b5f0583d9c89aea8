"""An inversion or an edit in a line."""

from itertools import pairwise
from statistics import fmean, median

from evoken.flowopt.folder import FlowOptRun
from evoken.models.provenance import public_name
from evoken.run_folder import Summary, as_written, date_of, state_of


def _seconds_left(run: FlowOptRun, done: int) -> float | None:
    """By the times at which the iterates were written; None for fewer than two. The median: a run
    may have been interrupted.
    """
    files = [run.picture(0, number) for number in range(done)]
    times = [file.stat().st_mtime for file in files if file.is_file()]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return max(0, run.settings.drawn - done) * median(gaps) if gaps else None


def summary(run: FlowOptRun) -> Summary:
    """What a table of runs says of this one; ``RunError`` if its folder is damaged."""
    records, config = run.records(), run.config
    with as_written(run.path / "config.json"):
        texts = [config["sources"], config["targets"]]
        about = " -> ".join(", ".join(dict.fromkeys(text)) for text in texts if text)
    with as_written(run.path / "records.jsonl"):
        residuals = [fmean(r["residual"]) for r in records if None not in r["residual"]]
        agreement = records[-1]["agreement"] if records else None
        return Summary(
            command=config["command"],
            about=about,
            model=public_name(run.spec.name),
            state=state_of(run.path, (run.path / "report.html").is_file()),
            done=len(records),
            total=run.settings.drawn,
            unit="iterates",
            calls=records[-1]["calls"] if records else 0,
            loss=min(residuals, default=None),
            gain=None,
            score=fmean(agreement) if agreement and None not in agreement else None,
            date=date_of(config),
            left=_seconds_left(run, len(records)),
        )
