"""The contest of methods: what each is given, and that each plays by its rules."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from benchmarks.evidence.ablations import ABLATIONS
from benchmarks.evidence.contest import Contest, run, sketched
from benchmarks.evidence.methods import METHODS
from benchmarks.evidence.report import NOTHING
from benchmarks.evidence.scalar import _hardly_varied
from benchmarks.evidence.squares import ENTRIES, Turned
from benchmarks.evidence.tables import ALL, TABLES, concepts
from benchmarks.gradient import _loss, gradient, plain_attention
from evoken.arrays import Coords, Vectors
from evoken.models.clip import Clip
from evoken.models.families.latent import LatentModel
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.pipelines import load_pipeline
from evoken.prompts import KINDS
from evoken.spec import ModelSpec

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
    "POUNDERS": "ibcdfo",
}
HERE = [
    name
    for name, row in METHODS.items()
    if not row.like and (name not in PACKAGES or find_spec(PACKAGES[name]))
]
HERE.remove(NOTHING)  # which spends none
# What no other method does: a start of its own, several words, axes of Eq. 5.
HERE += ["paper, zero start", "paper, 2 words", "paper, prior norm 2"]

Begin = Callable[..., Contest]


@pytest.fixture
def begin(model: StableDiffusion, clip: Clip, images: torch.Tensor) -> Begin:
    def begin(
        calls: int = CALLS,
        held_out: Callable[[Vectors], float] | None = None,
        other: LatentModel | None = None,
        kind: str = "object",
        captions: Sequence[str] = (),
    ) -> Contest:
        its = other or model
        start = its.vocabulary().vectors[: 3 if kind == "style" else 1].clone()
        held_out = held_out or (lambda word: 1.0)
        return Contest(its, clip, images, start, 3, calls, held_out, kind, captions)

    return begin


@pytest.mark.parametrize("name", HERE)
def test_every_method_offers_words_until_its_calls_are_spent(begin: Begin, name: str) -> None:
    words: list[Vectors] = []

    def held_out(word: Vectors) -> float:
        words.append(word)
        return float(word.norm())

    contest = begin(held_out=held_out)
    method = next(iter(ALL[name].variants.values()))
    points = run(method, contest)
    shape = (2, contest.model.width) if name == "paper, 2 words" else contest.start.shape
    assert len(words) == len(points) and {word.shape for word in words} == {shape}
    assert [point.loss for point in points] == [float(word.norm()) for word in words]
    assert points and 500 <= points[0].calls <= points[-1].calls <= contest.calls
    assert torch.isfinite(contest.word).all() and not torch.equal(contest.word, contest.start)
    assert 0.5 * CALLS <= contest.calls < 1.5 * CALLS  # with a generation too few or too many


@pytest.mark.parametrize("name", [name for name in HERE if name in PACKAGES])
def test_what_a_package_draws_comes_from_the_seed(begin: Begin, name: str) -> None:
    method = next(iter(METHODS[name].variants.values()))
    words = []
    for other in (1, 2):
        np.random.seed(other)  # noqa: NPY002  # which some packages draw from
        before = np.random.get_state()[1]  # noqa: NPY002
        contest = begin(calls=600)
        run(method, contest)
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
        words.append(contest.word)
    assert torch.equal(*words)
    assert not hasattr(np, "int")


def test_what_is_measured_is_not_paid_for(begin: Begin) -> None:
    def held_out(word: Vectors) -> float:
        return float(contest.losses(word[None], 99, 8)[0])

    contest = begin(held_out=held_out)
    run(METHODS["FZOO"].variants["rate 0.1"], contest)
    spent, free = contest.calls, begin()
    run(METHODS["FZOO"].variants["rate 0.1"], free)
    assert torch.equal(contest.word, free.word)
    assert spent == free.calls


def test_a_gradient_is_what_differences_of_the_loss_say(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In float32 everywhere: differences this short are lost in bfloat16.
    monkeypatch.setattr("benchmarks.gradient.imitates", lambda spec: True)
    contest = begin()
    slope = contest.gradient(contest.start, 5, 4, weighted=True).double()
    direction = torch.nn.functional.normalize(slope, dim=1).float()

    def loss(word: Vectors) -> float:
        objective = contest._objective(4)
        with torch.no_grad(), plain_attention(contest.model):
            drawn = [contest._drawn(5, 4, weighted=True)]
            words, latents = word[None], [objective.latents]
            found = _loss(contest.model, words, latents, drawn, objective.weights)
        return float(found.double().mean())

    length = 0.02 * float(contest.start.norm())
    ahead, behind = (loss(contest.start + s * length * direction) for s in (1, -1))
    assert (ahead - behind) / (2 * length) == pytest.approx(float(slope.norm()), rel=0.1)


def test_residuals_are_those_of_the_loss_and_a_projection_keeps_their_products(
    begin: Begin,
) -> None:
    contest = begin()
    words = contest.vectors(np.random.default_rng(0).standard_normal((6, contest.start.numel())))
    found = contest.residuals(words, 2, 8)
    np.testing.assert_allclose((found**2).sum(1), contest.losses(words, 2, 8), rtol=1e-5)
    projected = sketched(found, ENTRIES, contest.seed)
    assert projected.shape == (6, ENTRIES)
    np.testing.assert_allclose(projected @ projected.T, found @ found.T, rtol=0.1)
    np.testing.assert_array_equal(projected, sketched(found, ENTRIES, contest.seed))


@pytest.mark.parametrize("entries", [40, 12])
def test_turned_residuals_have_the_same_products_as_far_as_they_have_axes(entries: int) -> None:
    rng = np.random.default_rng(3)
    found = 5 + rng.standard_normal((20, 300)) * np.logspace(0, -6, 20)[:, None]
    found[7] = found[3] - 2 * found[1]  # no new axis
    turn = Turned(entries)
    turned = np.vstack([turn(found[:3]), turn(found[3:])])
    assert turned.shape == (20, entries)
    products = found @ found.T
    # With eleven axes and one row without any of its own, the first twelve are exact.
    np.testing.assert_allclose((turned @ turned.T)[:, :entries], products[:, :entries], rtol=1e-12)
    np.testing.assert_allclose((turned**2).sum(1), np.diag(products), rtol=1e-12)


def test_a_solver_goes_the_same_way_on_turned_residuals() -> None:
    rng = np.random.default_rng(4)
    slopes, target = rng.standard_normal((200, 5)), rng.standard_normal(200)

    def residuals(x: Coords) -> Coords:
        return np.asarray(np.tanh(slopes @ x) - target)

    turn = Turned(500)
    ways: list[list[Coords]] = [[], []]
    for way, seen in zip(ways, (residuals, lambda x: turn(residuals(x)[None])[0]), strict=True):

        def asked(x: Coords, way: list[Coords] = way, seen: Any = seen) -> Coords:
            way.append(x.copy())
            return np.asarray(seen(x))

        least_squares(asked, np.zeros(5), max_nfev=6)
    np.testing.assert_allclose(*ways, rtol=1e-6, atol=1e-9)


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


def test_a_gradient_is_the_same_by_the_way_that_every_model_has(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    contest = begin()
    given = contest._objective(4).latents, contest._drawn(2, 4, weighted=False)
    calls = contest.calls
    # Where bfloat16 is fast, this model's own way takes it.
    monkeypatch.setattr("benchmarks.gradient.imitates", lambda spec: True)
    own = gradient(contest.model, contest.start, *given)
    monkeypatch.setattr("benchmarks.gradient.StableDiffusion", type(None))
    other = gradient(contest.model, contest.start, *given)
    torch.testing.assert_close(other, own, rtol=1e-3, atol=1e-6)
    assert contest.calls == calls  # they are counted where they are asked for
    assert not contest.model.condition(["a cat"]).requires_grad


@pytest.fixture(scope="module")
def flow(tiny_folder: Path) -> LatentModel:
    """A flow with a word in two text encoders."""
    return load_pipeline(str(tiny_folder / "flow"), ModelSpec("tiny-flow"))


@pytest.mark.parametrize("name", ["evoken", "gradients, our objective", "DTI", "ZOODiP"])
def test_methods_of_the_flow_s_table_learn_there(
    begin: Begin, flow: LatentModel, name: str
) -> None:
    assert name in TABLES["stickers-flow", "methods"].methods
    contest = begin(900 if name == "evoken" else 150, other=flow)
    run(next(iter(METHODS[name].variants.values())), contest)
    assert contest.word.shape == (1, flow.width) and torch.isfinite(contest.word).all()
    if name == "DTI":  # of each encoder
        parts = list(flow.vocabulary().parts)
        norms = [part.norm(dim=1).mean() for part in flow.vocabulary().vectors.split(parts, 1)]
        found = [part.norm() for part in contest.word.split(parts, 1)]
        torch.testing.assert_close(found, norms)


@pytest.mark.parametrize("name", ["evoken", "evoken, 2 words", "gradients, averaged", "DTI"])
def test_methods_of_the_styles_table_learn_styles(begin: Begin, name: str) -> None:
    assert name in TABLES["stickers", "styles"].methods
    captions = ["a cat", "", "a hat", ""]
    contest = begin(900 if name.startswith("evoken") else 150, kind="style", captions=captions)
    run(next(iter(ALL[name].variants.values())), contest)
    assert len(contest.word) == (2 if name == "evoken, 2 words" else 3)
    assert contest._objective(4).templates == KINDS["style"].templates
    for drawn in (contest._objective(16)._draw(1, "draws", 16), contest._drawn(1, 16, True)):
        told = {
            int(i): drawn.sentences[k] for i, k in zip(drawn.image, drawn.sentence, strict=True)
        }
        assert {told.pop(1), told.pop(3)} <= {*KINDS["style"].templates}
        assert told == {0: "a cat in the style of {}", 2: "a hat in the style of {}"}


def test_of_styles_only_what_says_so_goes_without_captions() -> None:
    without = [name for name, row in ALL.items() if not row.captions]
    assert without == ["evoken, no captions", "gradients, no captions"]
    assert {*without} <= {*TABLES["stickers", "styles"].methods}


def test_concepts_to_tune_on_are_not_reported() -> None:
    tuning, reported = set(concepts(True, 4)), set(concepts(False, 10))
    assert len(tuning) == 4 and len(reported) == 10 and not tuning & reported
    # What is compared with the contest's rows has the same concepts.
    for name in (("stickers", "ablations"), ("stickers-flow", "methods")):
        table = TABLES[name]
        assert set(table.nouns(table.concepts)) <= reported
    assert not set(METHODS) & set(ABLATIONS)


def test_a_method_that_is_like_another_has_its_variants() -> None:
    likes = {name: row for name, row in ALL.items() if row.like}
    assert likes and all(set(r.variants) == set(ALL[r.like].variants) for r in likes.values())
