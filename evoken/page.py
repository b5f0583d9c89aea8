"""What every page is made of: templates, pictures within the page, and curves.

Templates are in ``evoken/templates``; what is put into them is text, whatever it holds.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

from evoken.decoding import decode, read
from evoken.errors import plain

MOST_WIDE = 512  # px of a picture within a page; the file beside it has them all
SMALL = 96  # px; of pictures up to this side, single pixels are to be seen
MOST_DOTS = 40  # of a curve


@dataclass(frozen=True)
class Picture:
    """A picture within a page.

    Attributes:
        source: the picture as WebP, in a data URI.
        alt: what it shows, in words.
        link: its file, relative to the page; "" for none.
        small: whether its pixels are to be seen.
    """

    source: str
    alt: str
    link: str
    width: int
    height: int
    small: bool


@dataclass(frozen=True)
class Curve:
    """Values over calls of the model, at least one; ``mark`` is the index of the result."""

    name: str
    calls: Sequence[float]
    values: Sequence[float]
    mark: int | None = None


@dataclass(frozen=True)
class Line:
    """A curve as a chart draws it; points are "x,y" in a square of 1000."""

    name: str
    points: tuple[str, ...]
    dots: tuple[str, ...]
    mark: str


@dataclass(frozen=True)
class Chart:
    """Curves with one scale, as the templates draw them: ``level`` is a height from 0 to 1000."""

    label: str
    alt: str
    low: str
    high: str
    calls: str
    lines: tuple[Line, ...]
    level: float | None
    level_name: str


@cache
def templates(package: str = "evoken") -> Environment:
    """The templates of a package, with those of all pages."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("evoken")]),
        autoescape=True,
        finalize=_plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _plain(value: Any) -> Any:
    """What a template shows; text from files is shown without what would reorder the page."""
    return plain(value, "\n\t") if type(value) is str else value


def page(template: str, **values: Any) -> str:
    """A whole page of HTML; ``values`` are what the template shows."""
    return templates().get_template(template).render(**values)


def template_text(name: str) -> str:
    """A template that is no HTML, as it is written."""
    environment = templates()
    assert environment.loader is not None  # noqa: S101
    return environment.loader.get_source(environment, name)[0]


def picture(path: Path, alt: str, home: Path, side: int) -> Picture:
    """A picture's file as a picture within a page: no wider than ``MOST_WIDE``.

    Args:
        home: the folder of the page, for the link; there is none to files elsewhere.
        side: of the picture, or of those on a sheet, in pixels as a model drew them.

    Raises:
        ImageError: it cannot be read.
    """
    image, small = decode(read(path), path), side <= SMALL
    if small and image.width > MOST_WIDE:  # a sheet, enlarged by whole pixels: none is lost
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
    if image.width > MOST_WIDE:
        size = (MOST_WIDE, max(1, round(image.height * MOST_WIDE / image.width)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "WEBP", lossless=small, quality=85)
    source = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
    link = path.relative_to(home).as_posix() if path.is_relative_to(home) else ""
    return Picture(source, alt, link, *image.size, small)


def chart(
    label: str, curves: Sequence[Curve], level: float | None = None, level_name: str = ""
) -> Chart:
    """Curves in one chart.

    Args:
        level: a value to compare with, as a dashed line with a name.
    """
    shown = [v for curve in curves for v in curve.values] + ([] if level is None else [level])
    low, high = min(shown), max(shown)
    if low == high:  # a flat line, in the middle
        low, high = low - (abs(low) / 20 or 1), high + (abs(high) / 20 or 1)
    last = max(curve.calls[-1] for curve in curves)

    def height(value: float) -> float:
        return round(1000 * (high - value) / (high - low), 1)

    lines = []
    for curve in curves:
        points = tuple(
            f"{1000 * calls / max(last, 1):.1f},{height(value)}"
            for calls, value in zip(curve.calls, curve.values, strict=True)
        )
        dots = points if len(points) <= MOST_DOTS else ()
        mark = "" if curve.mark is None else points[curve.mark]
        lines.append(Line(curve.name, points, dots, mark))
    told = [f"{c.name} from {c.values[0]:.4g} to {c.values[-1]:.4g}" for c in curves]
    return Chart(
        label,
        f"{label} over {last:,.0f} calls: {', '.join(told)}",
        f"{low:.4g}",
        f"{high:.4g}",
        f"{last:,.0f}",
        tuple(lines),
        None if level is None else height(level),
        level_name,
    )
