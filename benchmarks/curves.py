"""The curves of the editing benchmark as one SVG: a column per kind of edit, a row per measure."""

from collections.abc import Sequence
from html import escape
from typing import Any

COLOURS = ("#d9480f", "#f59f00", "#1971c2", "#2f9e44", "#9c36b5", "#868e96")
PANEL, GAP, MARGIN = 210, 40, 50
ROWS = (  # what is on the two axes
    ("rmse", "clip", "RMSE", "CLIP agreement"),
    ("rmse", "shown", "RMSE", "share that shows the target"),
    ("kept", "shown", "RMSE of what should stay", "share that shows the target"),
)


def curve_sheet(
    rows: Sequence[dict[str, Any]], editors: Sequence[str], kinds: Sequence[str]
) -> str:
    """``rows`` have a kind, an editor and what is on the axes; points are joined in their order."""
    width = MARGIN + len(kinds) * (PANEL + GAP)
    height = 30 + len(ROWS) * (PANEL + GAP) + 40
    parts = []
    for i, kind in enumerate(kinds):
        for j, (across, _, _, label) in enumerate(ROWS):
            here = [r for r in rows if r["kind"] == kind and r[across] == r[across]]  # no NaN
            x, y = MARGIN + i * (PANEL + GAP), 40 + j * (PANEL + GAP)
            if here:
                panel = _panel(here, editors, ROWS[j])
                parts.append(f'<g transform="translate({x} {y})">{panel}</g>')
            if j == 0:
                at = f'x="{x + PANEL / 2}" y="{y - 10}"'
                parts.append(f'<text {at} text-anchor="middle">{kind} edits</text>')
            if i == 0:
                at = f"translate(14 {y + PANEL / 2}) rotate(-90)"
                parts.append(f'<text transform="{at}" text-anchor="middle">{label}</text>')
    for k, editor in enumerate(editors):
        left, y = MARGIN + k % 3 * (width - MARGIN) / 3, height - 32 + k // 3 * 20
        parts.append(
            f'<circle cx="{left}" cy="{y}" r="4" fill="{COLOURS[k]}"/>'
            f'<text x="{left + 9}" y="{y + 4}">{escape(editor)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _panel(
    rows: Sequence[dict[str, Any]], editors: Sequence[str], axes: tuple[str, str, str, str]
) -> str:
    """One measure over a distance to the source."""
    across, up, name, _ = axes
    xs, ys = [r[across] for r in rows], [r[up] for r in rows]
    (left, right), (low, high) = _range(xs), _range(ys)
    parts = [f'<rect width="{PANEL}" height="{PANEL}" fill="none" stroke="#ced4da"/>']
    for editor in editors:
        points = [
            (PANEL * (r[across] - left) / (right - left), PANEL * (high - r[up]) / (high - low))
            for r in rows
            if r["editor"] == editor
        ]
        colour = COLOURS[list(editors).index(editor)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    parts.append(
        f'<text x="0" y="{PANEL + 14}" fill="#495057">{left:.0f}</text>'
        f'<text x="{PANEL / 2}" y="{PANEL + 14}" text-anchor="middle" fill="#495057">{name}</text>'
        f'<text x="{PANEL}" y="{PANEL + 14}" text-anchor="end" fill="#495057">{right:.0f}</text>'
        f'<text x="-4" y="{PANEL}" text-anchor="end" fill="#495057">{low:.2f}</text>'
        f'<text x="-4" y="10" text-anchor="end" fill="#495057">{high:.2f}</text>'
    )
    return "".join(parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    room = 0.05 * (max(values) - min(values)) or 1.0
    return min(values) - room, max(values) + room
