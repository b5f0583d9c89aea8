"""The report of an inversion or an edit: the strip of iterates, and curves against calls."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from PIL import Image

from evoken.files import write_csv, write_text
from evoken.flowopt.folder import FlowOptRun
from evoken.images import counted
from evoken.models.provenance import public_name, without_paths
from evoken.page import Chart, Curve, Picture, chart, page, picture
from evoken.run_folder import input_path, made, name_of

UNITS = {
    "rmse": "RMSE to the source (pixels from 0 to 255)",
    "psnr": "PSNR to the source, dB",
    "ssim": "SSIM to the source",
    "residual": "residual in latents, RMS of f(z) - y",
    "agreement": "CLIP agreement with the target",
}
Records = list[dict[str, Any]]


def write_report(run: FlowOptRun, floor: dict[str, list[float]]) -> Path:
    """Write ``report.html``, one file with everything in it, and ``curves.csv``; returns the
    report's path.

    Args:
        floor: rmse, psnr and ssim of every picture after only the autoencoder.
    """
    records, editing = run.records(), run.config["command"] == "edit"
    doing, folder = "An edit" if editing else "An inversion", name_of(run.path)
    path, count = run.path / "report.html", len(run.config["pictures"])
    write_csv(run.path / "curves.csv", curves(run))
    suggestions: Sequence[int | None] = run.suggestions() or [None] * count
    text = page(
        "flowopt.html",
        title=f"{doing} of {counted(count)}",
        doing=doing,
        calls=f"{records[-1]['calls'] / count:,.0f}",
        model=public_name(run.spec.name),
        made=made(run.config),
        pick=f"evoken pick {quote(folder)}" if editing else "",
        folder=folder,
        note_parts=str(run.config.get("note", "")).split("`name`"),
        edits=[_edit(run, records, floor, i, best) for i, best in enumerate(suggestions)],
        settings=without_paths(run.settings.to_dict()),
    )
    write_text(path, text)
    return path


def _edit(
    run: FlowOptRun, records: Records, floor: dict[str, list[float]], i: int, best: int | None
) -> dict[str, Any]:
    """What is shown of one picture."""
    config = run.config
    return {
        "name": config["pictures"][i]["name"],
        "source": config["sources"][i],
        "target": config["targets"][i] if config["targets"] else "",
        "strip": _strip(run, records, i, best),
        "charts": charts(records, floor, i),
    }


def _strip(
    run: FlowOptRun, records: Records, i: int, best: int | None
) -> list[tuple[str, Picture, bool]]:
    """Captions, pictures, and which is suggested: the source and every iterate."""
    name, given = run.config["pictures"][i]["name"], input_path(run.path, i)
    targets = run.config["targets"]
    shown = f"on the way to “{targets[i]}”" if targets else "drawn from the noise found so far"
    with Image.open(given) as image:
        side = image.width
    strip = [("the picture", picture(given, f"{name} as it was given", run.path, side), False)]
    for record in records:
        number = record["iteration"]
        caption = f"{number}: RMSE {_number(record['rmse'][i], 1)}"
        if record["agreement"]:
            caption += f", CLIP {_number(record['agreement'][i], 3)}"
        if record["diverged"][i]:
            caption += ", diverged: back to the best"
        if number == best:
            caption += ", suggested"
        alt = f"{name} after {number} updates, {shown}"
        iterate = picture(run.picture(i, number), alt, run.path, side)
        strip.append((caption, iterate, number == best))
    return strip


def charts(records: Records, floor: dict[str, list[float]], i: int) -> list[Chart]:
    """The measures of the i-th picture over calls.

    Args:
        floor: see ``write_report``; may be empty.
    """
    found = []
    for key, label in UNITS.items():
        rows = [r for r in records if r[key] and r[key][i] is not None]
        if rows:
            calls = [r["calls"] / len(r["residual"]) for r in rows]
            level = floor[key][i] if key in floor else None
            curve = Curve("iterates", calls, [r[key][i] for r in rows])
            found.append(chart(label, [curve], level, "autoencoder only"))
    return found


def curves(run: FlowOptRun) -> list[dict[str, Any]]:
    """The run in numbers, one row for each picture and iterate; calls are those for one picture."""
    pictures = run.config["pictures"]
    return [
        {
            "picture": picture["name"],
            "iterate": record["iteration"],
            "calls": round(record["calls"] / len(pictures), 3),
            **{key: record[key][i] if record[key] else None for key in UNITS},
        }
        for i, picture in enumerate(pictures)
        for record in run.records()
    ]


def _number(value: float | None, digits: int) -> str:
    """A number, or that there is none."""
    return "not finite" if value is None else f"{value:.{digits}f}"
