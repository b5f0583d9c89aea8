"""A run of ``evoken learn`` in a line."""

from collections.abc import Sequence

from evoken.models.provenance import public_name
from evoken.run_folder import Summary, as_written, date_of, state_of
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Record, calls_in_all, seconds_left
from evoken.textual_inversion.report import result_of


def summary(run: LearnRun) -> Summary:
    """What a table of runs says of this one; ``RunError`` if its folder is damaged."""
    settings, records, scores = run.settings, run.records(), run.scores()
    with as_written(run.path / "records.jsonl"):
        calls = records[-1].calls if records else 0
        total = calls_in_all(records, settings.calls)
        loss = result_of(settings, records).validation if records else None
        nothing = run.loss_of_no_word() if records else None
        return Summary(
            command="learn",
            about=settings.placeholder,
            model=public_name(run.spec.name),
            state=state_of(run.path, run.finished),
            done=calls,
            total=total,
            unit="calls",
            calls=calls,
            loss=loss,
            gain=None if loss is None or nothing is None else nothing - loss,
            score=scores[max(scores)].value if scores else None,
            date=date_of(run.config),
            left=_left(run, records, total),
        )


def _left(run: LearnRun, records: Sequence[Record], total: int) -> float | None:
    """Seconds until it is finished; None where that is not known yet."""
    if run.finished:
        return 0.0
    return seconds_left(records[-1], total, run.settings.minutes) if records else None
