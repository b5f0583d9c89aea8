"""One battery for every search, then what each claims for itself."""

import re
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evoken.errors import SearchError, SettingError
from evoken.evaluation.chunks import Evaluation
from evoken.options import fields_of
from evoken.search.base import Search, without_failures
from evoken.search.table import SEARCHES, search_of
from evoken.textual_inversion.settings import LearnSettings
from tests.least_squares import DIMENSION, GENERATIONS, POPSIZE, Least, evaluation_of, run

SIGMAS = {"zero-order": 0.1, "random": 0.2}  # by search; 0.3 for all others


@pytest.fixture(params=sorted(SEARCHES))
def make(request: pytest.FixtureRequest) -> Callable[[int], Search]:
    name = request.param
    sigma = SIGMAS.get(name, 0.3)
    return lambda seed: SEARCHES[name].load()(DIMENSION, seed, POPSIZE, sigma, GENERATIONS)


def test_it_improves_on_the_start(make: Callable[[int], Search]) -> None:
    problem, search = Least(), make(0)
    run(search, problem)
    assert problem.loss(search.center) < 0.3 * problem.loss(np.zeros(DIMENSION))


def test_it_starts_at_the_origin(make: Callable[[int], Search]) -> None:
    assert (make(0).center == 0).all()
    assert make(0).sigma > 0


def test_it_asks_for_as_many_candidates_as_it_says(make: Callable[[int], Search]) -> None:
    search = make(0)
    assert len(search.ask()) == type(search).candidates(POPSIZE, DIMENSION)


def test_its_best_candidate_is_one_of_the_last_or_its_centre(make: Callable[[int], Search]) -> None:
    search = make(0)
    asked = search.ask()
    search.tell(Least().evaluate(asked))
    assert any((search.best == x).all() for x in (*asked, search.center))


def test_an_unknown_search_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(SettingError, match="gauss-newton, cma, sep-cma, zero-order, random"):
        search_of("luck")


@pytest.mark.parametrize("name", SEARCHES)
def test_the_table_says_what_a_search_needs(name: str) -> None:
    row = SEARCHES[name]
    search, problem = row.load()(DIMENSION, 0, POPSIZE, 0.3, GENERATIONS), Least()
    losses = problem.evaluate(search.ask()).losses
    if row.wants_gram:
        with pytest.raises(SearchError):
            search.tell(Evaluation(losses))
    else:
        search.tell(Evaluation(losses))
        assert (search.best != search.center).any() == row.has_best
    assert row.hears == (row.load().hear is not Search.hear)


@pytest.mark.parametrize("name", SEARCHES)
def test_it_needs_about_as_much_memory_as_it_says(name: str) -> None:
    kind, (popsize, dimension) = SEARCHES[name].load(), (8, 600)
    residuals = np.random.default_rng(0).standard_normal((popsize, 20))
    tracemalloc.start()
    search = kind(dimension, 0, popsize, 0.3, GENERATIONS)
    for _ in range(3):
        search.ask()
        search.tell(evaluation_of(residuals))
    needed, said = tracemalloc.get_traced_memory()[1], kind.memory(popsize, dimension)
    tracemalloc.stop()
    assert 0.3 * said < needed < 1.1 * said + 100_000


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("setting", ["popsize", "draws"])
def test_the_settings_that_suit_a_search_are_those_that_the_help_tells(
    name: str, setting: str
) -> None:
    told = fields_of(LearnSettings)[setting].about.suited
    own, others = re.fullmatch(r"(\d+) for gauss-newton, else (\d+)", told).groups()  # type: ignore[union-attr]
    value = getattr(LearnSettings(placeholder="<cat>", search=name), setting)
    assert value == int(own if name == "gauss-newton" else others)


def test_told_the_same_it_asks_the_same(make: Callable[[int], Search]) -> None:
    problem, search = Least(), make(3)
    told = run(search, problem, 5)
    replayed = make(3)
    for evaluation in told:
        replayed.ask()
        replayed.tell(evaluation)
    np.testing.assert_array_equal(replayed.center, search.center)
    np.testing.assert_array_equal(replayed.ask(), search.ask())


def test_seeds_differ_and_the_global_generator_is_left_alone(
    make: Callable[[int], Search],
) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert not np.array_equal(make(0).ask(), make(1).ask())
    run(make(0), Least(), 3)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_what_it_hands_out_is_not_its_state(make: Callable[[int], Search]) -> None:
    search = make(0)
    search.center[:] = 99
    assert (search.center == 0).all()


def test_a_failed_candidate_does_not_stop_it(make: Callable[[int], Search]) -> None:
    problem, search = Least(), make(0)
    for _ in range(GENERATIONS):
        evaluation = problem.evaluate(search.ask())
        assert evaluation.gram is not None
        evaluation.losses[3] = evaluation.gram[3] = evaluation.gram[:, 3] = np.nan
        search.tell(evaluation)
    assert problem.loss(search.center) < 0.6 * problem.loss(np.zeros(DIMENSION))


def test_a_generation_of_failures_is_an_error(make: Callable[[int], Search]) -> None:
    search = make(0)
    count = len(search.ask())
    failed = Evaluation(np.full(count, np.nan), np.full((count, count), np.nan))
    with pytest.raises(SearchError, match="NaN"):
        search.tell(failed)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=9))
def test_failures_become_the_worst_finite_loss(losses: list[float]) -> None:
    given_losses = np.array(losses)
    finite = np.isfinite(given_losses)
    if not finite.any():
        with pytest.raises(SearchError):
            without_failures(given_losses)
        return
    found = without_failures(given_losses)
    assert np.isfinite(found).all()
    assert (found[finite] == given_losses[finite]).all()
    assert (found[~finite] == given_losses[finite].max()).all()


def test_zero_order_is_adam_on_the_mean_of_slopes() -> None:
    """Against torch's Adam, with a rate that falls linearly to a tenth and stays there."""
    generations, rate, slope = 8, 0.1, np.linspace(-2.0, 3.0, DIMENSION)
    search = SEARCHES["zero-order"].load()(DIMENSION, 0, POPSIZE, rate, generations)
    x = torch.zeros(DIMENSION, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([x], betas=(0.9, 0.99), eps=1e-12)
    for done in range(12):
        asked = search.ask()
        losses = asked @ slope + 5.0
        np.testing.assert_allclose(asked[0], search.center)
        steps = asked[1:] - asked[0]
        assert 0.5 < steps.std() / 0.05 < 2  # the length of a difference
        x.grad = torch.from_numpy((losses[1:] - losses[0]) @ steps / len(steps) / 0.05**2)
        adam.param_groups[0]["lr"] = rate * (1 - 0.9 * min(1.0, done / generations))
        assert search.sigma == pytest.approx(adam.param_groups[0]["lr"])
        adam.step()
        search.tell(Evaluation(losses))
        np.testing.assert_allclose(search.center, x.detach().numpy(), rtol=1e-9)


def test_the_rate_of_zero_order_falls_to_a_tenth_in_a_single_generation_too() -> None:
    search = SEARCHES["zero-order"].load()(DIMENSION, 0, POPSIZE, 0.1, 1)
    search.ask()
    search.tell(Evaluation(np.zeros(POPSIZE)))
    assert search.sigma == pytest.approx(0.01)


def test_random_search_goes_to_the_best_of_a_generation_and_never_back() -> None:
    problem = Least()
    search = SEARCHES["random"].load()(DIMENSION, 0, POPSIZE, 0.2, GENERATIONS)
    for _ in range(10):
        asked = search.ask()
        np.testing.assert_array_equal(asked[0], search.center)
        assert 0.1 < (asked[1:] - asked[0]).std() < 0.3 and search.sigma == 0.2
        losses = problem.evaluate(asked).losses
        search.tell(Evaluation(losses))
        np.testing.assert_array_equal(search.center, asked[losses.argmin()])


def test_cma_learns_what_goes_together_and_its_separable_form_does_not() -> None:
    found = {}
    for name in ("cma", "sep-cma"):
        search = SEARCHES[name].load()(2, 0, 40, 0.3, 40)
        for _ in range(40):
            asked = search.ask()
            search.tell(Evaluation(100 * (asked.sum(1)) ** 2 + (asked[:, 0] - 1) ** 2))
        found[name] = np.corrcoef(search.ask().T)[0, 1]
    assert found["cma"] < -0.9 and abs(found["sep-cma"]) < 0.5
