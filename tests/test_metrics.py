"""Scores and their intervals."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from evoken.pictures.metrics import Score


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_a_share_has_scipys_wilson_interval(hits: list[bool]) -> None:
    score = Score.of_hits(hits)
    expected = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    assert (score.low, score.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert score.high - score.low > 0.01  # certain of nothing, even where all are hits
    assert score.n == len(hits)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=50).filter(lambda x: np.std(x) > 1e-6))
def test_a_mean_has_scipys_t_interval(values: list[float]) -> None:
    score = Score.of_cosines(values)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert score.low == pytest.approx(max(-1, expected.low), abs=1e-9)
    assert score.high == pytest.approx(min(1, expected.high), abs=1e-9)
    assert -1 <= score.low <= score.value <= score.high <= 1


def test_one_value_says_nothing_about_its_spread() -> None:
    assert Score.of_cosines([0.5]) == Score(0.5, -1, 1, 1)


@pytest.mark.parametrize("n", [5, 8, 64])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(n: int) -> None:
    samples = np.random.default_rng(n).normal(0.4, 0.1, (4000, n))
    scores = [Score.of_cosines(row.tolist()) for row in samples]
    assert np.mean([s.low <= 0.4 <= s.high for s in scores]) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("n", [8, 64])
@pytest.mark.parametrize("truth", [0.05, 0.3, 0.5, 0.75, 0.99])
def test_intervals_of_shares_hold_the_truth_about_as_often(n: int, truth: float) -> None:
    """Shares come in steps of 1 / n, so coverage is near 95 % and not at it; 1.96 standard errors
    hold the truth in 34 % of samples of 8 where it is 0.05.
    """
    samples = np.random.default_rng(n).random((4000, n)) < truth
    scores = [Score.of_hits(row.tolist()) for row in samples]
    assert np.mean([s.low <= truth <= s.high for s in scores]) > 0.9


def test_a_score_is_read_as_it_was_written() -> None:
    score = Score.of_hits([True] * 6 + [False] * 2)
    assert Score.from_dict(asdict(score)) == score
    assert str(score) == "0.750 [0.409, 0.929]"
    old = Score.from_dict({"value": 0.5, "error": 0.1})
    assert (old.value, old.low, old.high) == pytest.approx((0.5, 0.4, 0.6))
