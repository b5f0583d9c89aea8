"""The contest of methods: what each is given, and that each plays by its rules."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.evidence import report
from benchmarks.evidence.contest import ENTRIES, MARKS, Contest, run
from benchmarks.evidence.methods import METHODS
from benchmarks.evidence.report import NOTHING, OURS, Evidence, slug
from benchmarks.evidence.scalar import _hardly_varied
from evoken.arrays import Vectors
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion

CALLS = 1_200
# Solvers whose packages the benchmarks install for themselves; those under the GPL stay there.
PACKAGES = {
    "LRA-CMA-ES": "cmaes",
    "CR-FM-NES": "crfmnes",
    "NGOpt": "nevergrad",
    "TBPSA": "nevergrad",
    "DFO-LS": "dfols",
    "DFBGN": "dfbgn",
    "ES-MDA": "iterative_ensemble_smoother",
}
HERE = [name for name in METHODS if name not in PACKAGES or find_spec(PACKAGES[name])]
HERE.remove(NOTHING)  # which spends none

Begin = Callable[..., Contest]


@pytest.fixture
def begin(model: StableDiffusion, clip: Clip, images: torch.Tensor) -> Begin:
    def begin(calls: int = CALLS, held_out: Callable[[Vectors], float] | None = None) -> Contest:
        start = model.vocabulary().vectors[:1].clone()
        return Contest(model, clip, images, start, 0, 3, calls, held_out or (lambda word: 1.0))

    return begin


@pytest.mark.parametrize("name", HERE)
def test_every_method_offers_words_until_its_calls_are_spent(begin: Begin, name: str) -> None:
    words: list[Vectors] = []

    def held_out(word: Vectors) -> float:
        words.append(word)
        return float(word.norm())

    contest = begin(held_out=held_out)
    method = next(iter(METHODS[name].variants.values()))
    points = run(method, contest)
    assert len(words) == len(points) and {word.shape for word in words} == {contest.start.shape}
    assert [point.loss for point in points] == [float(word.norm()) for word in words]
    assert points and 500 <= points[0].calls <= points[-1].calls <= contest.calls
    assert torch.isfinite(contest.word).all() and not torch.equal(contest.word, contest.start)
    assert 0.5 * CALLS <= contest.calls < 1.5 * CALLS  # with a generation too few or too many


def test_what_is_measured_is_not_paid_for(begin: Begin) -> None:
    def held_out(word: Vectors) -> float:
        return float(contest.losses(word[None], 99, 8)[0])

    contest = begin(held_out=held_out)
    run(METHODS["FZOO"].variants["rate 0.1"], contest)
    spent, free = contest.calls, begin()
    run(METHODS["FZOO"].variants["rate 0.1"], free)
    assert torch.equal(contest.word, free.word)
    assert spent == free.calls


def test_a_gradient_is_what_differences_of_the_loss_say(begin: Begin) -> None:
    contest = begin()
    slope = contest.gradient(contest.start, 5, 4, weighted=True).double()
    direction = torch.nn.functional.normalize(slope, dim=1).float()

    def loss(word: Vectors) -> float:
        from benchmarks.evidence.contest import T_RANGE
        from benchmarks.gradient import OBJECT_TEMPLATES, _loss, plain_attention

        objective = contest._objective(4)
        with torch.no_grad(), plain_attention(contest.model):
            given: Any = ([objective.latents], [contest.seed], 5, OBJECT_TEMPLATES, 4)
            found = _loss(contest.model, word[None], *given, T_RANGE, objective.weights)
        return float(found.double().mean())

    length = 0.02 * float(contest.start.norm())
    ahead, behind = (loss(contest.start + s * length * direction) for s in (1, -1))
    assert (ahead - behind) / (2 * length) == pytest.approx(float(slope.norm()), rel=0.1)


def test_the_projection_keeps_losses_and_inner_products(begin: Begin) -> None:
    contest = begin()
    words = contest.vectors(np.random.default_rng(0).standard_normal((6, contest.start.numel())))
    whole = contest._objective(8).weighted(words, 2)
    found = contest.residuals(words, 2, 8)
    assert found.shape == (6, ENTRIES)
    np.testing.assert_allclose((found**2).sum(1), contest.losses(words, 2, 8), rtol=0.1)
    np.testing.assert_allclose(found @ found.T, whole @ whole.T / whole.shape[1], rtol=0.1)
    np.testing.assert_array_equal(found, contest.residuals(words, 2, 8))


def test_words_of_dti_are_as_long_as_the_vocabulary_is_in_the_mean(begin: Begin) -> None:
    contest = begin()
    run(METHODS["DTI"].variants["rate 0.03"], contest)
    norms = contest.model.vocabulary().vectors.norm(dim=1)
    assert float(contest.word.norm()) == pytest.approx(float(norms.mean()), rel=1e-4)


def test_what_hardly_varied_is_left_out() -> None:
    rng = np.random.default_rng(1)
    words = rng.standard_normal((40, 2)) @ np.eye(5)[:2] + 1e-4 * rng.standard_normal((40, 5))
    axes = _hardly_varied(words, 1e-3)
    assert axes.shape == (3, 5)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.abs(axes[:, :2]).max() < 1e-2


def rows_of(method: str, loss: float, judge: float, curve: list[tuple[float, float]]) -> Any:
    """Of a method that is the same on three concepts and two seeds."""
    row = {"calls": curve[-1][0], "seconds": 9.0, "loss": loss, "judge": judge, "norm": 0.8}
    row |= {"concept": 0.5, "prompt": 0.4, "blue": judge / 2}
    return {
        (method, noun, seed): {**row, "curve": [[calls, 1.0, at] for calls, at in curve]}
        for noun in ("otter", "squid", "teapot")
        for seed in (0, 1)
    }


def test_figures_say_what_the_rows_say() -> None:
    results = {
        **rows_of(NOTHING, 1.0, 0.0, [(0, 1.0)]),
        **rows_of(OURS, 0.5, 0.6, [(500, 0.9), (1_000, 0.7), (6_000, 0.5)]),
        **rows_of("gradients", 0.4, 0.8, [(500, 0.6), (12_000, 0.4)]),
        **rows_of("GFTI, official", 0.8, 0.1, [(500, 1.2), (12_000, 0.8)]),
        **rows_of("random", 0.45, 0.2, [(500, 1.2), (12_000, 0.45)]),
    }
    evidence = Evidence(results, typical=0.4)
    found = evidence.found()
    medians = {
        k.removeprefix("evidence."): v["median"] for k, v in found.items() if isinstance(v, dict)
    }
    assert medians["judge_share_vs_gradient"] == pytest.approx(0.75)
    assert medians["gain_vs_gradient_over_empty"] == pytest.approx(0.5 / 0.6, abs=1e-4)
    assert medians["calls_ratio_official"] == pytest.approx(12_000 / 750)  # half-way to 0.7
    assert medians["calls_to_90_percent"] == pytest.approx(1_000 + 5_000 * 0.15 / 0.2)
    assert medians["norm_ratio"] == 2 and medians["colour_edit_keeps_shape"] == 0.3
    assert medians["bad_words"] == 0 and found["evidence.bad_words"]["low"] == 0
    assert found["evidence.bad_words"]["high"] == pytest.approx(0.5615, abs=1e-4)  # of 0 in 3
    assert medians["concept_vs_gradient"] == medians["prompt_vs_gradient"] == 1
    assert found["evidence.rank_among_searches"] == 2 and found["evidence.searches"] == 3
    assert "calls_ratio_zoodip" not in medians
    assert found["evidence.judge_share"]["low"] == found["evidence.judge_share"]["high"] == 0.6
    assert evidence.table()[f"evidence.{slug('GFTI, official')}.loss"] == 0.8


def test_intervals_over_few_concepts_hold_the_truth_as_often_as_they_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "RESAMPLED", 400)
    rng, held = np.random.default_rng(0), 0
    rows = rows_of(OURS, 0.5, 0.6, [(500, 0.5)])
    for _ in range(200):
        nouns = [f"thing {i}" for i in range(6)]
        results = {
            (OURS, noun, 0): {**rows[OURS, "otter", 0], "loss": loss}
            for noun, loss in zip(nouns, rng.normal(1, 0.3, 6), strict=True)
        }
        evidence = Evidence(results, typical=0.4)
        found = evidence.interval(lambda its, e=evidence: e.mean(OURS, "loss", its))  # type: ignore[misc]
        held += found["low"] <= 1 <= found["high"]
    assert 0.9 <= held / 200 <= 0.99  # plain percentiles hold it in 85 %


def test_methods_that_are_not_measured_everywhere_are_left_out() -> None:
    results = rows_of(OURS, 0.5, 0.6, [(500, 0.5)]) | rows_of("random", 0.5, 0.6, [(500, 0.5)])
    del results["random", "squid", 1]
    evidence = Evidence(results, typical=0.4)
    assert evidence.methods == [OURS] and evidence.found()["evidence.searches"] == 1
    assert evidence.calls_to(OURS, "otter", 0, 0.4) == float("inf")


@pytest.mark.skipif(not find_spec("matplotlib"), reason="drawn where the benchmarks run")
def test_curves_are_named_at_their_ends(tmp_path: Any) -> None:
    from benchmarks.evidence.curves import apart, draw

    curve = [(float(mark), 1.0 - mark / 30_000) for mark in MARKS]
    results = rows_of(NOTHING, 1.0, 0.0, [(0, 1.0)])
    for method in (OURS, "gradients", "random"):
        results |= rows_of(method, 0.6, 0.5, curve)
    draw(Evidence(results, typical=0.4), tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert all(name in text for name in (OURS, "gradients", "random", "no word"))
    assert apart([0.0, 0.0, 5.0], 1.0) == [0.0, 1.0, 5.0]
