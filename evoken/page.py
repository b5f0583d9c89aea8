"""What every report is made of: one page of HTML with pictures and curves in it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

CSS = """
:root { color-scheme: light dark; --line: #8884; --accent: #d9480f; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
img { max-width: 100%; border-radius: 4px; image-rendering: pixelated }
.inputs img { width: 128px; margin: 0 4px 4px 0 }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .25rem 1rem; margin: 1rem 0 }
.pair p, figcaption { margin: 0; font-size: .9rem } .wide { grid-column: 1 / -1; font-weight: 600 }
.previews { display: flex; flex-wrap: wrap; gap: 1rem } .previews figure { margin: 0; width: 17rem }
.strip { display: flex; flex-wrap: wrap; gap: .75rem } .strip figure { margin: 0; width: 9rem }
.strip img { width: 9rem } .strip figcaption { font-size: .8rem }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin-top: 1rem }
table { border-collapse: collapse; font-size: .9rem }
td, th { border: 1px solid var(--line); padding: .2rem .6rem; text-align: left }
pre { background: #8882; padding: .75rem; overflow-x: auto; border-radius: 4px }
svg { width: 100%; height: auto } .note { opacity: .75 }
@media (max-width: 40rem) { .pair, .charts { grid-template-columns: 1fr } }
"""


def page(title: str, body: str) -> str:
    """A whole page; ``title`` is text, ``body`` HTML."""
    name = escape(title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name}</title><style>{CSS}</style></head><body>
<h1>{name}</h1>
{body}
</body></html>
"""


def image(path: Path, alt: str) -> str:
    """A PNG file within the page."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{content}">'


def table(values: Mapping[str, Any]) -> str:
    """Names and values."""
    rows = "".join(
        f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in values.items()
    )
    return f"<table>{rows}</table>"


def line_chart(
    calls: Sequence[float],
    values: Sequence[float],
    label: str,
    mark: tuple[float, float] | None = None,
    floor: tuple[float, str] | None = None,
    width: int = 800,
) -> str:
    """Values over calls, as SVG, with a marked point or a level to compare with; ``width`` is about
    that on the page, so that letters keep their size.
    """
    height, left, bottom = 260, 70, 40
    shown = [*values, floor[0]] if floor else list(values)
    low, high = min(shown), max(shown)
    room = (high - low) or 1.0

    def point(call: float, value: float) -> tuple[float, float]:
        x = left + (width - left - 10) * call / max(calls[-1], 1)
        return x, 10 + (height - bottom - 10) * (high - value) / room

    line = " ".join(
        "{:.1f},{:.1f}".format(*point(c, v)) for c, v in zip(calls, values, strict=True)
    )
    marks = "".join(
        f'<text x="{left - 6}" y="{point(0, v)[1] + 4:.1f}" text-anchor="end">{v:.4g}</text>'
        for v in (low, high)
    )
    if mark:
        x, y = point(*mark)
        marks += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--accent)"/>'
    if floor:
        y = point(0, floor[0])[1]
        marks += (
            f'<path d="M{left} {y:.1f}H{width - 10}" stroke="currentColor" stroke-dasharray="6 4"'
            f' opacity=".6"/><text x="{width - 10}" y="{y - 5 if y > 20 else y + 15:.1f}"'
            f' text-anchor="end" opacity=".8">{escape(floor[1])}</text>'
        )
    return f"""<svg viewBox="0 0 {width} {height}" role="img"
 aria-label="{escape(label)} over calls"
 font-size="12" fill="currentColor">
<path d="M{left} 10V{height - bottom}H{width - 10}" fill="none" stroke="currentColor" opacity=".4"/>
<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="2"/>{marks}
<text x="{width - 10}" y="{height - 12}" text-anchor="end">{calls[-1]:,.0f} calls</text>
<text x="{left}" y="{height - 12}">{escape(label)} over calls</text></svg>"""
