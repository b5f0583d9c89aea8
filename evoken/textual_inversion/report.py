"""The report of a run and its curves as a table: made from its folder alone."""

from pathlib import Path
from typing import Any

from PIL import Image

from evoken.errors import one_line
from evoken.files import write_csv, write_text
from evoken.images import counted
from evoken.models.provenance import public_name, without_paths
from evoken.page import Chart, Curve, Picture, chart, page, picture
from evoken.pictures.metrics import Score
from evoken.pictures.scoring import LABELS, label
from evoken.run_folder import as_written, made, name_of
from evoken.textual_inversion.folder import PREVIEWS, LearnRun
from evoken.textual_inversion.learn import Record
from evoken.textual_inversion.settings import LearnSettings
from evoken.textual_inversion.usage import cli_usage, conversions, diffusers_code, is_local


def write_report(run: LearnRun) -> Path:
    """Write ``report.html``, one file with everything in it, and ``curves.csv``; returns the
    report's path.
    """
    path, settings, records = run.report_path, run.settings, run.records()
    best = result_of(settings, records)
    write_csv(run.path / "curves.csv", curves(run))
    text = page(
        "learn.html",
        title=settings.placeholder,
        calls=f"{records[-1].calls:,}",
        model=public_name(run.spec.name),
        local_model=is_local(run.spec.name),
        duration=_duration(records[-1].seconds),
        start_loss=f"{records[0].validation:.4f}",
        best_loss=f"{best.validation:.4f}",
        generation=best.generation,
        **gains(run, records[0].validation, best.validation),
        made=made(run.config),
        start=one_line(run.start_name),
        note_parts=str(run.config.get("note", "")).split("`name`"),
        inputs=inputs(run, run.path),
        samples=_samples(run),
        scores=evaluated(run),
        charts=charts(run),
        previews=_previews(run),
        folder=name_of(run.path),
        command=cli_usage(run),
        code=diffusers_code(run),
        conversions=conversions(run),
        settings=without_paths(run.public_settings),
    )
    write_text(path, text)
    return path


def gains(run: LearnRun, start: float, best: float) -> dict[str, Any]:
    """As text: how far a word's loss is below that at the start, and below that of no word."""
    nothing = run.loss_of_no_word()
    return {
        "gain": f"{start - best:.4f}",
        "nothing_loss": "" if nothing is None else f"{nothing:.4f}",
        "gain_over_nothing": "" if nothing is None else f"{nothing - best:.4f}",
        "is_start": start == best,
        "useless": nothing is not None and nothing <= best,
    }


def inputs(run: LearnRun, home: Path) -> list[Picture]:
    """The images that the word was learned from, for a page in the folder ``home``."""
    side, total = side_of(run), len(run.inputs)
    return [
        picture(file, f"image {i} of {total} that the word was learned from", home, side)
        for i, file in enumerate(run.inputs, 1)
    ]


def side_of(run: LearnRun) -> int:
    """The side of the model's pictures in pixels."""
    with as_written(run.inputs[0]), Image.open(run.inputs[0]) as image:
        return image.width


def sample(run: LearnRun, number: int, which: str, home: Path) -> Picture | None:
    """The sheet of a sentence, if it was drawn.

    Args:
        number: of the sentence among those that the run shows.
        which: "before" or "after" learning.
    """
    file = run.sample_path(number, which)
    if not file.exists():
        return None
    sentence = run.settings.shown_prompts[number]
    word = "the learned word" if which == "after" else "the word at the start"
    alt = f"{counted(run.settings.samples)} of “{sentence}”, drawn with {word}"
    return picture(file, alt, home, side_of(run))


def _samples(run: LearnRun) -> list[tuple[str, Picture, Picture]]:
    rows = []
    for i, sentence in enumerate(run.settings.shown_prompts):
        start, learned = (sample(run, i, which, run.path) for which in ("before", "after"))
        if start and learned:
            rows.append((sentence, start, learned))
    return rows


def evaluated(run: LearnRun) -> dict[str, tuple[str, str]]:
    """The scores that ``evoken evaluate`` found, of the word at the start and as learned; gains are
    of the learned one. Those that a scorer gave have names of their own: they cannot be compared
    with CLIP's.
    """
    found = run.evaluation()
    if not found:
        return {}
    with as_written(run.scores_path):
        scorer = one_line(str(found.get("scorer", "")))
        rows = {
            f"gain {name.replace('_', ' ')}": ("", Score.from_dict(gain).text(4))
            for name, gain in sorted(found.get("gains", {}).items(), reverse=True)
            if gain is not None
        }
        pairs = found["start_and_learned"]
        for name in sorted(pairs, key=[*LABELS, *pairs].index):
            start, learned = (str(Score.from_dict(score)) for score in pairs[name])
            rows[label(name, scorer)] = (start, learned)
    return rows


def _previews(run: LearnRun) -> list[tuple[str, Picture]]:
    scores, side, found = run.scores(), side_of(run), []
    sentences = "” and “".join(run.settings.previewed_prompts)
    for generation, file in run.previews():
        caption = f"generation {generation}"
        if generation in scores:
            caption += f", {run.score_name} {scores[generation]}"
        alt = f"{counted(PREVIEWS)} of “{sentences}” after generation {generation}"
        found.append((caption, picture(file, alt, run.path, side)))
    return found


def result_of(settings: LearnSettings, records: list[Record]) -> Record:
    """The record of the generation that gave the word."""
    last = "last-best" in settings.mistakes
    return records[-1] if last else min(records, key=lambda r: r.validation)


def loss_curve(run: LearnRun, name: str) -> Curve:
    """Validation loss over calls, the result marked."""
    records = run.records()
    best = result_of(run.settings, records)
    return Curve(
        name, [r.calls for r in records], [r.validation for r in records], records.index(best)
    )


def score_curve(run: LearnRun, name: str) -> Curve | None:
    """Scores of the previews over calls; None where there are none."""
    calls = {r.generation: r.calls for r in run.records()}
    scores = {g: score.value for g, score in run.scores().items() if g in calls}
    return Curve(name, [calls[g] for g in scores], list(scores.values())) if scores else None


def charts(run: LearnRun) -> list[Chart]:
    """The loss and the previews' scores of a run so far, which has a record at least."""
    nothing = run.loss_of_no_word()
    found = [chart("validation loss", [loss_curve(run, "loss")], nothing, "no word")]
    if scores := score_curve(run, "score"):
        found.append(chart(f"{run.score_name} score of the previews", [scores]))
    return found


def curves(run: LearnRun) -> list[dict[str, Any]]:
    """The run in numbers, one row for each generation: ``loss`` is that of its best candidate,
    ``score`` that of its preview, if there is one.
    """
    scores = run.scores()
    return [
        {
            "generation": r.generation,
            "calls": r.calls,
            "seconds": round(r.seconds, 3),
            "loss": min((x for x in r.losses if x is not None), default=None),
            "validation_loss": r.validation,
            "sigma": r.sigma,
            "score": scores[r.generation].value if r.generation in scores else None,
        }
        for r in run.records()
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
