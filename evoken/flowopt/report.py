"""The report of an inversion or an edit: the strip of iterates, and curves against calls."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from PIL import Image

from evoken.files import write_csv, write_text
from evoken.flowopt.begin import code_back, notes_on
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.originals import mask_path
from evoken.flowopt.record import chains
from evoken.flowopt.strength import Strength, Variant
from evoken.images import counted
from evoken.models.provenance import public_name, without_paths
from evoken.page import Chart, Curve, Picture, chart, page, picture
from evoken.run_folder import made, name_of

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
        suggests=None not in suggestions,
        folder=folder,
        note_parts=str(run.config.get("note", "")).split("`name`"),
        outside=notes_on(run),
        code=code_back(run),
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
    """Captions, pictures, and which is suggested: the source, where it may change, and every
    iterate.
    """
    name, given = run.config["pictures"][i]["name"], run.given(i)
    with Image.open(given) as image:
        side = image.width
    strip = [("the picture", picture(given, f"{name} as it was given", run.path, side), False)]
    if (mask := mask_path(run.path, i)).is_file():
        alt = f"white where {name} may change"
        strip.append(("white may change", picture(mask, alt, run.path, side), False))
    for record in records:
        number = record["iteration"]
        begun = caption_of(run, record)
        parts = [*filter(None, [begun]), f"RMSE {_number(record['rmse'][i], 1)}"]
        caption = f"{number}: {', '.join(parts)}"
        if record["agreement"]:
            caption += f", CLIP {_number(record['agreement'][i], 3)}"
        if record["diverged"][i]:
            caption += ", diverged: back to the best"
        if number == best:
            caption += ", suggested"
        alt = f"{name} {_told(run, record, i)}"
        iterate = picture(run.picture(i, number), alt, run.path, side)
        strip.append((caption, iterate, number == best))
    return strip


def caption_of(run: FlowOptRun, record: dict[str, Any]) -> str:
    """How far an iterate of an edit went, in words; "" of an inversion, and where earlier versions
    did not say.
    """
    if not run.config["targets"] or "strength" not in record:
        return ""
    variant = Variant(Strength.read(record["strength"]), record["seed"])
    return variant.described(record["update"], run.settings.seeds > 1)


def _told(run: FlowOptRun, record: dict[str, Any], i: int) -> str:
    """What the picture of an iterate is."""
    number, targets = record.get("update", record["iteration"]), run.config["targets"]
    if not targets:
        return f"after {number} updates, drawn from the noise found so far"
    return f"edited to “{targets[i]}”, iterate {record['iteration']}"


def charts(records: Records, floor: dict[str, list[float]], i: int) -> list[Chart]:
    """The measures of the i-th picture over calls, a curve for each start that was updated.

    Args:
        floor: see ``write_report``; may be empty.
    """
    updated = [chain for chain in chains(records).values() if len(chain) > 1]
    found = []
    for key, label in UNITS.items():
        curves = []
        for chain in updated:
            rows = [r for r in chain if r[key] and r[key][i] is not None]
            if rows:
                calls = [r["calls"] / len(r["residual"]) for r in rows]
                seeds = len({other[0].get("seed") for other in updated}) > 1
                seed = f", seed {chain[0]['seed']}" if seeds else ""
                named = "iterates" if len(updated) == 1 else f"{chain[0]['strength']}{seed}"
                curves.append(Curve(named, calls, [r[key][i] for r in rows]))
        if curves:
            level = floor[key][i] if key in floor else None
            found.append(chart(label, curves, level, "autoencoder only"))
    return found


def curves(run: FlowOptRun) -> list[dict[str, Any]]:
    """The run in numbers, one row for each picture and iterate; calls are those for one picture."""
    pictures = run.config["pictures"]
    return [
        {
            "picture": picture["name"],
            "iterate": record["iteration"],
            **{key: record.get(key, "") for key in ("strength", "seed", "update")},
            "calls": round(record["calls"] / len(pictures), 3),
            **{key: record[key][i] if record[key] else None for key in UNITS},
        }
        for i, picture in enumerate(pictures)
        for record in run.records()
    ]


def _number(value: float | None, digits: int) -> str:
    """A number, or that there is none."""
    return "not finite" if value is None else f"{value:.{digits}f}"
