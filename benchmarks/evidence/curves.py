"""Held-out loss over calls, a line for each method, as SVG."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.evidence.contest import MARKS
from benchmarks.evidence.report import NOTHING, OURS, Evidence

TICKS = (500, 1_000, 2_000, 4_000, 10_000, 20_000, 40_000)
LEADER = {"arrowstyle": "-", "lw": 0.5, "alpha": 0.6, "shrinkB": 0, "relpos": (0, 0.5)}
GREY, OWN, OTHER = "#9aa2ab", "#1864ab", "#c2410c"


def draw(evidence: Evidence, file: Path, methods: Sequence[str] = ()) -> None:
    """Write the curves: means over all words, relative to no word at all.

    Every line is named, and a thin one leads from the name to its end, so nobody has to compare
    colours with a legend.

    Args:
        methods: whose; by default all that were measured.
    """
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "evoken", "svg.fonttype": "none", "font.size": 9}
    figure, axes = plt.subplots(figsize=(8, 5.5))
    ends: list[tuple[float, float, str, str]] = []
    for method in methods or evidence.methods:
        if method not in evidence.methods:
            continue
        points = curve(evidence, method)
        if method == NOTHING or len(points) < 2:
            continue
        ours, gradient = method.startswith("evoken"), method.startswith(("gradients", "DTI"))
        color = OWN if ours else OTHER if gradient else GREY
        axes.plot(*zip(*points, strict=True), color=color, lw=2.2 if method == OURS else 1.2)
        ends.append((*points[-1], method, color))
    axes.axhline(0, color="black", lw=0.8, ls=":")
    axes.annotate("no word", (MARKS[0], 0), xytext=(0, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
    axes.minorticks_off()
    axes.set_xlabel("calls of the model; a forward and a backward pass count as three")
    axes.set_ylabel("held-out Eq. 1, less that of no word")
    axes.spines[["top", "right"]].set_visible(False)
    low, high = axes.get_ylim()
    places = apart([end[1] for end in ends], (high - low) / 32, low, high)
    for place, (x, y, method, color) in zip(places, ends, strict=True):
        axes.annotate(
            method,
            (x, y),
            xytext=(1.04, place),
            textcoords=axes.get_yaxis_transform(),
            color=color,
            va="center",
            annotation_clip=False,
            arrowprops={"color": color, **LEADER},
            fontsize=8,
        )
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def curve(evidence: Evidence, method: str) -> list[tuple[float, float]]:
    """Calls, and the mean over all words of the loss there, less that of no word, if measured; at
    the marks, and where the words are finished.
    """
    beside = NOTHING in evidence.methods
    pairs = evidence.pairs([method, NOTHING] if beside else [method])
    rows = [evidence.rows[method, *pair] for pair in pairs]
    base = [evidence.rows[NOTHING, *pair]["loss"] if beside else 0.0 for pair in pairs]
    found = []
    for mark in MARKS:
        after = [[loss for calls, _, loss in row["curve"] if calls >= mark] for row in rows]
        if all(after):
            losses = [its[0] - b for its, b in zip(after, base, strict=True)]
            found.append((float(mark), statistics.mean(losses)))
    end = statistics.mean(row["calls"] for row in rows)
    if found and end > found[-1][0]:
        losses = [row["loss"] - b for row, b in zip(rows, base, strict=True)]
        found.append((end, statistics.mean(losses)))
    return found


def apart(heights: list[float], least: float, low: float, high: float) -> list[float]:
    """The nearest heights (least squares) from ``low`` to ``high``, in the same order, that are
    ``least`` apart.
    """
    from scipy.optimize import isotonic_regression

    order = sorted(range(len(heights)), key=lambda i: heights[i])
    lift = least * np.arange(len(heights))
    lifted = isotonic_regression([heights[i] for i in order] - lift).x
    placed = dict(zip(order, lifted.clip(low, max(low, high - lift[-1])) + lift, strict=True))
    return [float(placed[i]) for i in range(len(heights))]
