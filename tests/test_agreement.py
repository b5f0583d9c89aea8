"""How the agreement of scores with the judge is computed."""

import numpy as np
import pytest
from scipy.stats import rankdata

from benchmarks import figures
from benchmarks.agreement import SCORES, agreement, concepts, report


def rows_of(noun: str, judge: list[float], concept: list[float]) -> list[dict[str, float | str]]:
    return [
        {"noun": noun, "word": f"word {i}", "judge": a, "obeyed": 1 - a, "concept": b}
        for i, (a, b) in enumerate(zip(judge, concept, strict=True))
    ]


def test_agreement_within_things_is_not_that_over_all() -> None:
    """Scores that rank a thing's words as the judge does may still rank things the other way."""
    rows = rows_of("otter", [0.0, 0.1, 0.2, 0.3], [0.6, 0.7, 0.8, 0.9])
    rows += rows_of("squid", [0.6, 0.7, 0.8, 0.9], [0.0, 0.1, 0.2, 0.3])
    within, overall = agreement(rows, "concept", "judge")
    assert within is not None and within.value == pytest.approx(1) and within.n == 2
    assert overall is not None and overall < 0


def test_it_is_spearmans_correlation_with_ties() -> None:
    judge, concept = [0.0, 0.0, 0.5, 0.25, 1.0], [0.1, 0.3, 0.2, 0.4, 0.9]
    _, overall = agreement(rows_of("otter", judge, concept), "concept", "judge")
    ranks = np.corrcoef(rankdata(judge), rankdata(concept))[0, 1]
    assert overall == pytest.approx(ranks)


def test_a_thing_of_which_the_judge_says_all_the_same_is_left_out() -> None:
    rows = rows_of("otter", [0.0, 0.5, 1.0], [0.3, 0.2, 0.1])
    rows += rows_of("squid", [0.0, 0.0, 0.0], [0.1, 0.2, 0.3])
    within, _ = agreement(rows, "concept", "judge")
    assert within is not None and within.value == pytest.approx(-1) and within.n == 1
    assert agreement(rows[3:], "concept", "judge")[0] is None


def test_figures_are_of_the_scores_that_all_words_have() -> None:
    rows = rows_of("otter", [0.0, 0.5, 1.0], [0.1, 0.2, 0.3])
    rows += rows_of("squid", [0.0, 0.5, 1.0], [0.1, 0.3, 0.2])
    found = report([row | {"prompt": row["concept"]} for row in rows])
    assert found["agreement.words"] == 6 and found["agreement.things"] == 2
    assert found["agreement.concept.within"]["median"] == pytest.approx(0.75)
    # A prompt score is to agree with what is obeyed, which is the other way round here.
    assert found["agreement.prompt.within"]["median"] == pytest.approx(-0.75)
    named = {name.split(".")[1] for name in found} - {"words", "things"}
    assert named == {"concept", "prompt"} < SCORES.keys()


def test_things_are_of_every_kind_and_none_twice() -> None:
    assert len(set(concepts(8))) == 8


def test_learning_shows_the_score_that_agrees_best() -> None:
    """Its loss; if another one takes the lead, that is to be shown (``evoken.pictures.shown``)."""
    known = figures.read()
    within = {s: known[f"agreement.{s}.within"] for s in SCORES if f"agreement.{s}.within" in known}
    judged = {s: value for s, value in within.items() if SCORES[s][0] == "judge"}
    of_pictures = {s: v for s, v in judged.items() if s not in ("loss_gain", "held_out_gain")}
    assert len(of_pictures) >= 5
    assert judged["loss_gain"]["low"] > max(value["median"] for value in of_pictures.values())
