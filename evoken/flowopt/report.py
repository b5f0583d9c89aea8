"""The report of an inversion or an edit: the strip of iterates, and curves against calls."""

from html import escape
from pathlib import Path
from shlex import quote
from typing import Any

from evoken.files import write_text
from evoken.flowopt.folder import FlowOptRun
from evoken.images import counted
from evoken.page import image, line_chart, page, table
from evoken.run_folder import input_path

UNITS = {
    "rmse": "RMSE to the source (pixels from 0 to 255)",
    "psnr": "PSNR to the source, dB",
    "ssim": "SSIM to the source",
    "residual": "residual in latents, RMS of f(z) - y",
    "agreement": "CLIP agreement with the target",
}


def write_report(run: FlowOptRun, floor: dict[str, list[float]]) -> Path:
    """Write ``report.html``: one file with everything in it; returns its path.

    Args:
        floor: rmse, psnr and ssim of every picture after only the autoencoder.
    """
    records, editing = run.records(), run.config["command"] == "edit"
    doing = "An edit" if editing else "An inversion"
    calls = records[-1]["calls"] / len(run.config["pictures"])
    parts = [
        f'<p class="note">{doing} with forward passes only: {calls:,.0f} calls of '
        f"{escape(run.spec.name)} per picture. Every iterate is a finished picture"
        + (
            f": <code>evoken pick {escape(quote(str(run.path)))}</code> copies the suggested one; "
            "add a number to copy another."
            if editing
            else ". The noise that leads back to the picture is in noise.safetensors."
        )
        + "</p>"
    ]
    if note := escape(str(run.config.get("note", ""))):
        parts.append(f'<p class="note">{note.replace("`name`", "<code>--model</code>")}</p>')
    suggestions = run.suggestions()
    for i, picture in enumerate(run.config["pictures"]):
        best = suggestions[i] if suggestions else None
        parts.append(_picture(run, records, floor, i, picture["name"], best))
    parts.append(f"<h2>Settings</h2>{table(run.settings.to_dict())}")
    path = run.path / "report.html"
    write_text(path, page(f"{doing} of {counted(len(run.config['pictures']))}", "".join(parts)))
    return path


def _picture(
    run: FlowOptRun,
    records: list[dict[str, Any]],
    floor: dict[str, list[float]],
    i: int,
    name: str,
    best: int | None,
) -> str:
    source, targets = run.config["sources"][i], run.config["targets"]
    asked = f"{escape(source)} → {escape(targets[i])}" if targets else escape(source)
    strip = [
        f"<figure>{image(input_path(run.path, i), 'the picture')}"
        "<figcaption>the picture</figcaption></figure>"
    ]
    for record in records:
        number = record["iteration"]
        caption = f"{number}: RMSE {_shown(record['rmse'][i], 1)}"
        if record["agreement"]:
            caption += f", CLIP {_shown(record['agreement'][i], 3)}"
        if record["diverged"][i]:
            caption += ", diverged: back to the best"
        if number == best:
            caption = f"<b>{caption}, suggested</b>"
        strip.append(
            f"<figure>{image(run.picture(i, number), f'iterate {number}')}"
            f"<figcaption>{caption}</figcaption></figure>"
        )
    charts = []
    for key, label in UNITS.items():
        rows = [r for r in records if r[key] and r[key][i] is not None]
        if rows:
            calls = [r["calls"] / len(run.config["pictures"]) for r in rows]
            level = floor.get(key, [])
            charts.append(
                line_chart(
                    calls,
                    [r[key][i] for r in rows],
                    label,
                    width=480,
                    floor=(level[i], "autoencoder only") if level else None,
                )
            )
    return (
        f"<h2>{escape(name)}</h2><p>{asked}</p><div class='strip'>{''.join(strip)}</div>"
        f"<div class='charts'>{''.join(charts)}</div>"
    )


def _shown(value: float | None, digits: int) -> str:
    """A number, or that there is none."""
    return "not finite" if value is None else f"{value:.{digits}f}"
