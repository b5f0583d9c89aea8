"""What the edits of all methods tell: curves, the best of each method, and figures.

A variant is a point: the share of edits in which the judge finds what was asked, and the error
outside the true mask. Editing some pictures by one variant and the rest by another gives every
point on the line between them, so a method's curve is the lower hull of its variants' points. A
method is never given more than it reached: beyond its largest share its error is infinite, and
below its least error its share is 0.

What the autoencoder loses of a picture is in every error, and is no editor's. ``beyond`` is an
error without it, in squares: sqrt(error^2 - autoencoder's^2).

Edits of style have no outside. They count in the table's columns of their own, not in a curve.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.editing.edits import KINDS
from benchmarks.editing.methods import REFERENCES, RIVALS
from benchmarks.editing.ours import SUGGESTED
from benchmarks.editing.work import Row, Variant

OURS = "ours"
CURVE = (OURS, "ours, strip")  # what is ours at any strength, without options that cost more
UNEDITED = Variant("unedited", "", 0.0)
MORE = 8.0  # grey levels outside, beyond what the autoencoder does, that are still no change
RESAMPLED = 2_000

Point = tuple[float, float]  # judge's share, error outside
Rows = Mapping[Variant, Row]
Statistic = Callable[[NDArray[np.int_]], float]  # of edits, some of them more than once


def hull(points: Sequence[Point]) -> list[Point]:
    """The points on a method's curve, from its least error to its largest share."""
    best: list[Point] = []
    for share, error in sorted(set(points), key=lambda p: (p[1], -p[0])):
        if not best or share > best[-1][0]:
            best.append((share, error))
            while len(best) > 2 and _above(best[-3], best[-2], best[-1]):
                del best[-2]
    return best


def _above(a: Point, b: Point, c: Point) -> bool:
    """Whether b costs no less than the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


def error_at(curve: Sequence[Point], share: float) -> float:
    """The least error with at least this share."""
    if not curve or share > curve[-1][0]:
        return float("inf")
    for (low, a), (high, b) in pairwise(curve):
        if low < share <= high:
            return a + (share - low) / (high - low) * (b - a)
    return curve[0][1]


def share_at(curve: Sequence[Point], error: float) -> float:
    """The largest share with at most this error."""
    if not curve or error < curve[0][1]:
        return 0.0
    for (a, low), (b, high) in pairwise(curve):
        if low <= error < high:
            return a + (error - low) / (high - low) * (b - a)
    return curve[-1][0]


class Measured:
    """The variants that were measured on all edits of a list; none before the unedited pictures
    were.

    Attributes:
        rows: by variant.
        kinds: of the edits.
        shown: those edits, by number, that have an outside.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows if UNEDITED in rows else {}
        count = len(rows[UNEDITED]["judge"]) if self.rows else 0
        self.kinds = np.array([KINDS[i % len(KINDS)] for i in range(count)])
        self.shown = np.flatnonzero(self.kinds != "style")
        floor = self._values(UNEDITED, "outside") if self.rows else np.zeros(0)
        self._arrays = {
            v: {name: self._values(v, name) for name in row if isinstance(row[name], list)}
            for v, row in self.rows.items()
        }
        for its in self._arrays.values():
            its["beyond"] = np.sqrt(np.clip(its["outside"] ** 2 - floor**2, 0, None))
            its["clean"] = its["judge"] * (its["outside"] <= floor + MORE)

    def _values(self, variant: Variant, name: str) -> NDArray[np.float64]:
        return np.array(self.rows[variant][name], dtype=float)  # None becomes NaN

    def mean(self, variant: Variant, name: str, edits: NDArray[np.int_] | None = None) -> float:
        """Of a variant's edits; by default of those that have an outside."""
        return float(self._arrays[variant][name][self.shown if edits is None else edits].mean())

    def has(self, variant: Variant, name: str) -> bool:
        return name in self._arrays[variant]

    def calls(self, variant: Variant) -> float:
        return float(self.rows[variant]["calls"])

    def of(self, methods: Sequence[str], calls: float = np.inf) -> list[Variant]:
        """Variants of some methods that take at most so many calls."""
        return [v for v in self.rows if v.method in methods and self.calls(v) <= calls]

    def point(
        self, variant: Variant, edits: NDArray[np.int_] | None = None, error: str = "outside"
    ) -> Point:
        return self.mean(variant, "judge", edits), self.mean(variant, error, edits)

    def curve(
        self,
        variants: Sequence[Variant],
        edits: NDArray[np.int_] | None = None,
        error: str = "outside",
    ) -> list[Point]:
        return hull([self.point(v, edits, error) for v in variants])

    def best(self, method: str, calls: float = np.inf) -> Variant | None:
        """The variant with the most edits that do what was asked and change little else; then with
        the least error.
        """
        its = [v for v in self.of([method], calls) if method != OURS or v.strength == SUGGESTED]
        return max(
            its, key=lambda v: (self.mean(v, "clean"), -self.mean(v, "outside")), default=None
        )

    def any_of(self, variants: Sequence[Variant], edits: NDArray[np.int_]) -> float:
        """Share of edits in which the judge is satisfied with at least one of the variants."""
        found = np.stack([self._arrays[v]["judge"] for v in variants])
        return float(found.max(0)[edits].mean())


def chosen(tuned: Measured, calls: float = np.inf) -> list[Variant]:
    """What is reported: of every method, the variants on its curve over the edits to tune on, all
    of them and among those that take at most so many calls; its best; and of ours by default
    everything.
    """
    found: set[Variant] = set(tuned.of([OURS, *REFERENCES]))
    for method in sorted({v.method for v in tuned.rows}):
        for most in (np.inf, calls):
            its = tuned.of([method], most)
            curve = tuned.curve(its)
            found |= {v for v in its if tuned.point(v) in curve}
            found |= {best for best in [tuned.best(method, most)] if best}
    return [v for v in tuned.rows if v in found]


def default_calls(tuned: Measured) -> float:
    """Calls of what is ours by default, in which everything else is compared at equal calls."""
    its = tuned.best(OURS)
    return float("inf") if its is None else float(math.ceil(tuned.calls(its)))


class Report:
    """Figures of the edits to report on, with what was chosen on the edits to tune on."""

    def __init__(self, tuned: Measured, reported: Measured) -> None:
        self.tuned, self.all = tuned, reported
        self.calls = default_calls(tuned)

    def found(self) -> dict[str, Any]:
        """All figures."""
        found: dict[str, Any] = {
            "editing.edits": len(self.all.kinds),
            "editing.tuned_on": len(self.tuned.kinds),
        }
        found |= self.table()
        strip = [v for v in self.all.of([OURS]) if v.strength != SUGGESTED]
        for suggestion in (v for v in self.all.of([OURS]) if v.strength == SUGGESTED):
            found["editing.calls_default"] = round(self.all.calls(suggestion), 1)
            if strip:
                found["editing.suggested_vs_ceiling"] = self.interval(
                    self._suggested(suggestion, strip), np.arange(len(self.all.kinds))
                )
        for suffix, calls in (("", np.inf), ("_equal_calls", self.calls)):
            for name, statistic in self._beside_the_best(calls).items():
                found[f"editing.{name}{suffix}"] = self.interval(statistic, self.all.shown)
        return found

    def _suggested(self, suggestion: Variant, strip: Sequence[Variant]) -> Statistic:
        """The judge's share of what is suggested, by that of the best that was drawn."""
        return lambda i: (
            self.all.mean(suggestion, "judge", i) / max(self.all.any_of(strip, i), 1e-9)
        )

    def curves(self) -> tuple[list[dict[str, Any]], list[str], list[str]]:
        """Points, methods and kinds for ``curve_sheet``."""
        methods = [m for m in dict.fromkeys(v.method for v in self.all.rows) if m not in REFERENCES]
        parts = {"all but style": self.all.shown}
        parts |= {k: np.flatnonzero(self.all.kinds == k) for k in KINDS if k != "style"}
        points = [
            {"kind": kind, "editor": method, "judge": share, "outside": error}
            for kind, edits in parts.items()
            for method in methods
            for share, error in self.all.curve(self.all.of([method]), edits)
        ]
        return points, methods, list(parts)

    def best_rival(self, calls: float = np.inf) -> Variant | None:
        """The one with the most clean edits, by the edits to tune on."""
        its = [best for m in RIVALS if (best := self.tuned.best(m, calls)) in self.all.rows]
        return max((v for v in its if v), key=lambda v: self.tuned.mean(v, "clean"), default=None)

    def _beside_the_best(self, calls: float) -> dict[str, Statistic]:
        """Ours by the best of all rivals: at the share of the best rival's best, or at our largest
        where that is less, and at the error of the best rival's best.
        """
        best, ours = self.best_rival(calls), self.all.of(CURVE, calls)
        if best is None or not ours:
            return {}
        rivals = [self.all.of([m], calls) for m in RIVALS]

        def error(name: str) -> Statistic:
            def statistic(i: NDArray[np.int_]) -> float:
                own = self.all.curve(ours, i, name)
                at = min(self.all.mean(best, "judge", i), own[-1][0])
                least = min(error_at(self.all.curve(its, i, name), at) for its in rivals)
                return error_at(own, at) / max(least, 1e-9)

            return statistic

        def share(i: NDArray[np.int_]) -> float:
            at, own = self.all.mean(best, "outside", i), self.all.curve(ours, i)
            most = max(share_at(self.all.curve(its, i), at) for its in rivals)
            return share_at(own, at) / max(most, 1e-9)

        return {
            "outside_rmse_vs_best": error("outside"),
            "beyond_rmse_vs_best": error("beyond"),
            "judge_share_vs_best": share,
        }

    def table(self) -> dict[str, Any]:
        """``editing.METHOD.COLUMN``: the best of every method, and its best within the calls of
        what is ours by default where that is another.
        """
        found: dict[str, Any] = {}
        for method in sorted({v.method for v in self.all.rows}):
            best, cheap = self.tuned.best(method), self.tuned.best(method, self.calls)
            for name, variant in ((method, best), (f"{method}, {self.calls:g} calls", cheap)):
                if variant not in self.all.rows or variant is None:
                    continue
                if name == method or variant != best:
                    found |= self._row(slug(name), variant)
        return found

    def _row(self, name: str, variant: Variant) -> dict[str, Any]:
        row: dict[str, Any] = {
            "judge": self.interval(lambda i: self.all.point(variant, i)[0], self.all.shown),
            "outside": self.interval(lambda i: self.all.point(variant, i)[1], self.all.shown),
        }
        for kind in KINDS:
            row[kind] = self.all.mean(variant, "judge", np.flatnonzero(self.all.kinds == kind))
        for column in ("beyond", "ssim", "clip", "clip_inside", "pasted", "pasted_judge", "clean"):
            if self.all.has(variant, column):
                row[column] = self.all.mean(variant, column)
        row["calls"] = self.all.calls(variant)
        return {
            f"editing.{name}.{c}": value if isinstance(value, dict) else round(value, 4)
            for c, value in row.items()
        }

    def interval(
        self, statistic: Statistic, edits: NDArray[np.int_], digits: int = 4
    ) -> dict[str, float]:
        """A statistic of some edits, and the interval that holds it in 95 % of draws of them."""
        rng = np.random.default_rng(0)
        drawn = [
            statistic(edits[rng.integers(len(edits), size=len(edits))]) for _ in range(RESAMPLED)
        ]
        low, high = np.percentile(drawn, [2.5, 97.5])
        found = {"median": statistic(edits), "low": float(low), "high": float(high)}
        return {k: round(v, digits) for k, v in found.items()} | {"n": len(edits)}


def slug(method: str) -> str:
    """A method's name as a part of a figure's."""
    return re.sub(r"\W+", "-", method).strip("-").lower()
