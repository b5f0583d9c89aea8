"""The curves of the editing benchmark as one SVG: a panel for each kind of edit."""

from collections.abc import Sequence
from html import escape
from typing import Any

COLOURS = (
    "#d9480f",
    "#f59f00",
    "#c2255c",
    "#868e96",
    "#1971c2",
    "#2f9e44",
    "#9c36b5",
    "#0c8599",
    "#5c940d",
    "#495057",
)
PANEL, GAP, MARGIN = 230, 40, 50
ACROSS, UP = "RMSE outside the true mask", "share in which the judge finds what was asked"


def curve_sheet(
    rows: Sequence[dict[str, Any]], editors: Sequence[str], kinds: Sequence[str]
) -> str:
    """``rows`` are points with a kind, an editor, and what is on the axes, ``outside`` and
    ``judge``; those of an editor are joined in their order.
    """
    width = MARGIN + len(kinds) * (PANEL + GAP)
    legend = 40 + PANEL + GAP
    height = legend + 20 * -(-len(editors) // 4) + 10
    parts = []
    for i, kind in enumerate(kinds):
        here = [r for r in rows if r["kind"] == kind]
        x = MARGIN + i * (PANEL + GAP)
        if here:
            parts.append(f'<g transform="translate({x} 40)">{_panel(here, editors)}</g>')
        middle = x + PANEL / 2
        parts.append(f'<text x="{middle}" y="30" text-anchor="middle">{escape(kind)}</text>')
    up = f"translate(14 {40 + PANEL / 2}) rotate(-90)"
    parts.append(f'<text transform="{up}" text-anchor="middle">{UP}</text>')
    for k, editor in enumerate(editors):
        left, y = MARGIN + k % 4 * (width - MARGIN) / 4, legend + k // 4 * 20
        parts.append(
            f'<circle cx="{left}" cy="{y}" r="4" fill="{COLOURS[k]}"/>'
            f'<text x="{left + 9}" y="{y + 4}">{escape(editor)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _panel(rows: Sequence[dict[str, Any]], editors: Sequence[str]) -> str:
    """The judge's share over the error outside."""
    right = 1.05 * max(r["outside"] for r in rows)
    parts = [f'<rect width="{PANEL}" height="{PANEL}" fill="none" stroke="#ced4da"/>']
    for editor in editors:
        points = [
            (PANEL * r["outside"] / right, PANEL * (1 - r["judge"]))
            for r in rows
            if r["editor"] == editor
        ]
        colour = COLOURS[list(editors).index(editor)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    parts.append(
        f'<text x="0" y="{PANEL + 14}" fill="#495057">0</text>'
        f'<text x="{PANEL / 2}" y="{PANEL + 14}" text-anchor="middle" fill="#495057">'
        f"{ACROSS}</text>"
        f'<text x="{PANEL}" y="{PANEL + 14}" text-anchor="end" fill="#495057">{right:.0f}</text>'
        f'<text x="-4" y="{PANEL}" text-anchor="end" fill="#495057">0</text>'
        f'<text x="-4" y="10" text-anchor="end" fill="#495057">1</text>'
    )
    return "".join(parts)
