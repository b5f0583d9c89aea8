"""What the contest has to show, and whether it does: a row for every figure."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Aim(NamedTuple):
    """A figure and its bound.

    Attributes:
        figure: without "evidence.".
        says: what it is.
        least, most: the bound; a name is another figure, None none.
    """

    figure: str
    says: str
    least: float | None = None
    most: float | str | None = None


AIMS = (
    Aim(
        "judge_share_vs_gradient",
        "thorough: judge's share, relative to the best gradients in equal time",
        1,
    ),
    Aim(
        "concept_vs_gradient",
        "thorough: concept score, relative to the best gradients in equal time",
        1,
    ),
    Aim(
        "prompt_vs_gradient",
        "thorough: prompt score, relative to the best gradients in equal time",
        1,
    ),
    Aim(
        "gain_vs_gradient_over_empty",
        "thorough: gain over no word, relative to the best gradients in equal time",
        1,
    ),
    Aim(
        "judge_share_vs_gradient_equal_calls",
        "default: judge's share, relative to the best gradients at equal calls",
        1,
    ),
    Aim(
        "concept_vs_gradient_equal_calls",
        "default: concept score, relative to the best gradients at equal calls",
        1,
    ),
    Aim(
        "prompt_vs_gradient_equal_calls",
        "default: prompt score, relative to the best gradients at equal calls",
        1,
    ),
    Aim(
        "gain_vs_gradient_over_empty_equal_calls",
        "default: gain over no word, relative to the best gradients at equal calls",
        1,
    ),
    Aim(
        "judge_share_vs_dti_equal_calls",
        "default: judge's share, relative to DTI with at most as many calls",
        1,
    ),
    Aim(
        "calls_ratio_official",
        "default: calls of the paper's official code, relative to evoken's to the same loss",
        20,
    ),
    Aim("calls_ratio_zoodip", "default: calls of ZOODiP, relative to evoken's to the same loss", 5),
    Aim(
        "rank_among_searches",
        "default: place among the searches without gradients, by loss",
        most=1,
    ),
    Aim("calls_to_90_percent", "default: calls to 90 % of its own gain over no word", most=5_860),
    Aim("norm_ratio", "default: length of the word, relative to the vocabulary's", most=2),
    Aim(
        "seed_spread_vs_gradient",
        "thorough: deviation of the judge's share over seeds, relative to gradients in equal time",
        most=1,
    ),
    Aim("style_judge_share", "default: judge's share of styles", 0.5),
    Aim(
        "bad_words",
        "thorough: share of words below 0.25 of the judge, at most that of gradients in equal time",
        most="bad_words_gradient",
    ),
    Aim(
        "bad_words_equal_calls",
        "default: share of words below 0.25 of the judge, at most that of gradients at equal calls",
        most="bad_words_gradient_equal_calls",
    ),
    Aim("colour_edit_keeps_shape", "default: judge's share of what was asked for in blue"),
)


def table(known: Mapping[str, Any], prefix: str = "evidence") -> str:
    """A row for each of those that were measured; "" if none was."""
    rows = [["figure", "aim", "measured", "95 %", ""], ["---"] * 5]
    for aim in AIMS:
        if (found := known.get(f"{prefix}.{aim.figure}")) is None:
            continue
        value = found["median"] if isinstance(found, dict) else found
        most = known.get(f"{prefix}.{aim.most}") if isinstance(aim.most, str) else aim.most
        most = most["median"] if isinstance(most, dict) else most
        bounds = ["at least " + number(aim.least)] if aim.least is not None else []
        bounds += ["at most " + number(most)] if most is not None else []
        met = (aim.least is None or value >= aim.least) and (most is None or value <= most)
        interval = ""
        if isinstance(found, dict):
            interval = f"{number(found['low'])} to {number(found['high'])}"
        verdict = ("met" if met else "missed") if bounds else ""
        rows.append([aim.says, " and ".join(bounds), number(value), interval, verdict])
    if len(rows) == 2:
        return ""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def number(value: float) -> str:
    """With as many digits as say something."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2f}"
