"""The curves of the editing benchmark as one SVG: a column per kind of edit, a row per measure."""

from collections.abc import Sequence
from html import escape
from typing import Any

COLOURS = ("#d9480f", "#f59f00", "#1971c2", "#2f9e44", "#9c36b5", "#868e96")
PANEL, GAP, MARGIN = 210, 40, 50
ROWS = {"clip": "CLIP agreement", "shown": "share that shows the target"}


def curve_sheet(
    rows: Sequence[dict[str, Any]], editors: Sequence[str], kinds: Sequence[str]
) -> str:
    """``rows`` have kind, editor, rmse, clip and shown; points are joined in their order."""
    width = MARGIN + len(kinds) * (PANEL + GAP)
    height = 30 + len(ROWS) * (PANEL + GAP) + 20
    parts = []
    for i, kind in enumerate(kinds):
        for j, (value, label) in enumerate(ROWS.items()):
            here = [r for r in rows if r["kind"] == kind]
            x, y = MARGIN + i * (PANEL + GAP), 40 + j * (PANEL + GAP)
            parts.append(f'<g transform="translate({x} {y})">{_panel(here, editors, value)}')
            title = f"{kind} edits" if j == 0 else ""
            parts.append(f'<text x="{PANEL / 2}" y="-10" text-anchor="middle">{title}</text></g>')
            if i == 0:
                at = f"translate(14 {y + PANEL / 2}) rotate(-90)"
                parts.append(f'<text transform="{at}" text-anchor="middle">{label}</text>')
    for k, editor in enumerate(editors):
        x = MARGIN + k * (width - MARGIN) / len(editors)
        parts.append(
            f'<circle cx="{x}" cy="{height - 12}" r="4" fill="{COLOURS[k]}"/>'
            f'<text x="{x + 9}" y="{height - 8}">{escape(editor)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _panel(rows: Sequence[dict[str, Any]], editors: Sequence[str], value: str) -> str:
    """One measure over the distance to the source."""
    xs, ys = [r["rmse"] for r in rows], [r[value] for r in rows]
    (left, right), (low, high) = _range(xs), _range(ys)
    parts = [f'<rect width="{PANEL}" height="{PANEL}" fill="none" stroke="#ced4da"/>']
    for editor in editors:
        points = [
            (PANEL * (r["rmse"] - left) / (right - left), PANEL * (high - r[value]) / (high - low))
            for r in rows
            if r["editor"] == editor
        ]
        colour = COLOURS[list(editors).index(editor)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    parts.append(
        f'<text x="0" y="{PANEL + 14}" fill="#495057">RMSE {left:.0f}</text>'
        f'<text x="{PANEL}" y="{PANEL + 14}" text-anchor="end" fill="#495057">{right:.0f}</text>'
        f'<text x="-4" y="{PANEL}" text-anchor="end" fill="#495057">{low:.2f}</text>'
        f'<text x="-4" y="10" text-anchor="end" fill="#495057">{high:.2f}</text>'
    )
    return "".join(parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    room = 0.05 * (max(values) - min(values)) or 1.0
    return min(values) - room, max(values) + room
