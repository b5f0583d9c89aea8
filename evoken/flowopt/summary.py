"""An inversion or an edit in a line."""

from statistics import fmean

from evoken.flowopt.folder import FlowOptRun
from evoken.models.provenance import public_name
from evoken.run_folder import Summary, as_written, date_of, state_of


def summary(run: FlowOptRun) -> Summary:
    """What a table of runs says of this one; ``RunError`` if its folder is damaged."""
    records, config, iterations = run.records(), run.config, run.settings.iterations
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
            done=max(0, len(records) - 1),
            total=iterations,
            unit="updates",
            calls=records[-1]["calls"] if records else 0,
            loss=min(residuals, default=None),
            clip=fmean(agreement) if agreement and None not in agreement else None,
            date=date_of(config),
        )
