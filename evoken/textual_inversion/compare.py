"""Runs of ``evoken learn`` side by side, as one page."""

import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from evoken.documents import read_json
from evoken.errors import RunError, shown
from evoken.files import write_text
from evoken.models.provenance import public_name, without_paths
from evoken.page import Chart, Picture, chart, page
from evoken.run_folder import as_written, check_free, name_of, state_of
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.report import (
    evaluated,
    gains,
    inputs,
    loss_curve,
    result_of,
    sample,
    score_curve,
    side_of,
)


def write_comparison(paths: Sequence[Path], output: Path, force: bool = False) -> None:
    """Write a page of two or more finished runs.

    Args:
        output: the page's file; pictures below its folder are linked.
        force: overwrite a file that is there.

    Raises:
        RunError: fewer than two runs or one twice, one that is not a finished run of ``learn``, a
            damaged one, or a file at ``output``.
    """
    if len({os.path.realpath(path) for path in paths}) < max(2, len(paths)):
        raise RunError(
            "a comparison needs two or more different runs.",
            "Type: evoken compare runs/ONE runs/OTHER",
        )
    runs = [LearnRun.open(path) for path in paths]
    for run in runs:
        if (state := state_of(run.path, run.finished)) != "finished":
            raise RunError(
                f"{shown(run.path)} is not finished: it is {state}.",
                "Wait for it."
                if state == "running"
                else f"Continue it with: evoken learn --resume {quote(str(run.path))}",
            )
    check_free(output, force)
    write_text(output, _page(runs, output.parent))


def _page(runs: list[LearnRun], home: Path) -> str:
    names = _names(runs)
    return page(
        "compare.html",
        title=f"{len(runs)} words side by side",
        names=names,
        notes=_notes(runs),
        scores=_scores(runs),
        settings=_different(runs),
        inputs=[(name, inputs(run, home)) for name, run in zip(names, runs, strict=True)],
        samples=_samples(runs, names, home),
        charts=_charts(runs, names),
    )


def _names(runs: list[LearnRun]) -> list[str]:
    """What the page calls the runs: their folders, with the folders above where those are equal."""
    for depth in range(1, 4):
        names = ["/".join(Path(os.path.realpath(run.path)).parts[-depth:]) for run in runs]
        if len({*names}) == len(names):
            return names
    return [f"{name_of(run.path)} ({i})" for i, run in enumerate(runs, 1)]


def _notes(runs: list[LearnRun]) -> list[str]:
    """What must be known to read the page."""
    models = {(public_name(r.spec.name), r.config.get("weights", ""), side_of(r)) for r in runs}
    pictures = {tuple(entry["sha256"] for entry in _given(run)) for run in runs}
    notes = [
        "Each sentence is drawn from the same noise for every word."
        if len(models) == 1
        else "The words were learned on different models: their pictures start from different "
        "noise, and their losses cannot be compared."
    ]
    measured = [_measured(run) for run in runs]
    if unlike := [name for name in measured[0] if len({of[name] for of in measured}) > 1]:
        notes.append(
            f"The words were learned with different {' and '.join(unlike)}: their losses cannot be "
            "compared."
        )
    elif len({(run.settings.seed, run.settings.validation_draws) for run in runs}) > 1:
        notes.append(
            "The losses are of other random draws, as the seeds or their number differ: compare "
            "the gains, not the losses."
        )
    if len(pictures) > 1:
        notes.append(
            "The words were learned from different images, which losses and scores depend on."
        )
    drawn = [_drawn(found) for run in runs if (found := run.evaluation())]
    if len({*drawn}) > 1:
        notes.append(
            f"The words were evaluated with {' and '.join(dict.fromkeys(drawn))}: these scores "
            "cannot be compared."
        )
    return notes


def _measured(run: LearnRun) -> dict[str, object]:
    """What the loss of a run is of, beside its pictures and its first model, by its name."""
    settings, annotations = run.settings, run.annotations()
    levels = (settings.t_low, settings.t_high) if settings.objective == "denoising" else None
    return {
        "objectives": settings.objective,
        "CLIP models": None if levels else public_name(run.clip),
        "second models": settings.also and public_name(settings.also),
        "kinds of sentences": settings.kind,
        "noise levels": levels,
        "weightings": settings.weighting if levels else None,
        "masks": None if annotations.masks is None else annotations.masks.numpy().tobytes(),
        "captions": annotations.captions,
    }


def _drawn(evaluation: dict[str, Any]) -> str:
    """Which pictures an evaluation drew."""
    count, steps, seed = (shown(evaluation.get(name, "?")) for name in ("count", "steps", "seed"))
    return f"{count} pictures of each sentence in {steps} steps from seed {seed}"


def _given(run: LearnRun) -> list[dict[str, Any]]:
    file = run.path / "inputs.json"
    with as_written(file):
        found: list[dict[str, Any]] = read_json(file)
        return [{"sha256": entry["sha256"]} for entry in found]


def _scores(runs: list[LearnRun]) -> dict[str, list[str]]:
    """What was measured, a value for each run; "" where it was not."""
    rows: dict[str, list[str]] = {}
    for i, run in enumerate(runs):
        records, scores = run.records(), run.scores()
        best = result_of(run.settings, records)
        gained = gains(run, records[0].validation, best.validation)
        found = {
            "word": run.settings.placeholder,
            "model": public_name(run.spec.name),
            "calls": f"{records[-1].calls:,}",
            "time": f"{records[-1].seconds / 60:.1f} min",
            "validation loss at the start": f"{records[0].validation:.4f}",
            "validation loss of the word": f"{best.validation:.4f}",
            "validation loss of no word": gained["nothing_loss"],
            "gain over start": gained["gain"],
            "gain over no word": gained["gain_over_nothing"],
            f"{run.score_name} score of the last preview": str(scores[max(scores)])
            if scores
            else "",
            **{f"{n} (evaluate)": learned for n, (_, learned) in evaluated(run).items()},
        }
        for name, value in found.items():
            rows.setdefault(name, [""] * len(runs))[i] = value
    return rows


def _different(runs: list[LearnRun]) -> dict[str, list[str]]:
    """Settings, model and versions that are not the same in all runs."""
    said: list[dict[str, str]] = []
    for run in runs:
        with as_written(run.path / "config.json"):
            model = dict(run.config["model"]) | {"name": public_name(run.spec.name)}
            values = run.public_settings | {f"model: {k}": v for k, v in model.items()}
            values |= {f"version of {k}": v for k, v in run.config.get("versions", {}).items()}
            values |= {"CLIP": public_name(run.clip), "weights": run.config.get("weights", "")[:12]}
        said.append(without_paths(values))
    names = dict.fromkeys(name for values in said for name in values)
    rows = {name: [values.get(name, "") for values in said] for name in names}
    return {name: values for name, values in rows.items() if len({*values}) > 1}


def _samples(
    runs: list[LearnRun], names: list[str], home: Path
) -> list[tuple[str, list[tuple[str, Picture]]]]:
    """By sentence, the sheets of the runs that drew it."""
    words = {run.settings.placeholder for run in runs}
    word = words.pop() if len(words) == 1 else "<word>"
    rows: dict[str, list[tuple[str, Picture]]] = {}
    for name, run in zip(names, runs, strict=True):
        for i, sentence in enumerate(run.settings.shown_prompts):
            if found := sample(run, i, "after", home):
                same = sentence.replace(run.settings.placeholder, word)
                rows.setdefault(same, []).append((name, found))
    return list(rows.items())


def _charts(runs: list[LearnRun], names: list[str]) -> list[Chart]:
    named = list(zip(runs, names, strict=True))
    charts = [chart("validation loss", [loss_curve(run, name) for run, name in named])]
    scored = [curve for run, name in named if (curve := score_curve(run, name))]
    kinds = {run.score_name for run in runs}
    # Without one of them, the colours would not be those of the other chart.
    if len(scored) == len(runs) and len(kinds) == 1:
        charts.append(chart(f"{kinds.pop()} score of the previews", scored))
    return charts
