"""One battery for every search, then what each claims for itself."""

import re
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evoken.arrays import Coords
from evoken.errors import SearchError, SettingError
from evoken.evaluation.chunks import Evaluation
from evoken.options import fields_of
from evoken.search.base import Search, without_failures
from evoken.search.gauss_newton import GaussNewton, trust_region_step
from evoken.search.table import SEARCHES, search_of
from evoken.textual_inversion.settings import LearnSettings

DIMENSION, POPSIZE, GENERATIONS = 12, 13, 60

SIGMAS = {"zero-order": 0.1, "random": 0.2}  # by search; 0.3 for all others


class Least:
    """A linear least-squares problem: residuals A x - b with a known solution."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.solution = rng.standard_normal(DIMENSION) * 0.5
        self.matrix = rng.standard_normal((40, DIMENSION)) * np.linspace(2, 0.5, DIMENSION)

    def evaluate(self, coords: Coords) -> Evaluation:
        residuals = (coords - self.solution) @ self.matrix.T
        relative = np.vstack([residuals[:1], residuals[1:] - residuals[:1]])
        losses = (residuals**2).mean(1)
        return Evaluation(losses, relative @ relative.T / residuals.shape[1])

    def loss(self, coords: Coords) -> float:
        return float(self.evaluate(coords[None]).losses[0])


@pytest.fixture(params=sorted(SEARCHES))
def make(request: pytest.FixtureRequest) -> Callable[[int], Search]:
    name = request.param
    sigma = SIGMAS.get(name, 0.3)
    return lambda seed: SEARCHES[name].load()(DIMENSION, seed, POPSIZE, sigma, GENERATIONS)


def run(search: Search, problem: Least, generations: int = GENERATIONS) -> list[Evaluation]:
    told = []
    for _ in range(generations):
        told.append(problem.evaluate(search.ask()))
        search.tell(told[-1])
    return told


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
    tracemalloc.start()
    wide = row.load()(300, 0, 4, 0.3, GENERATIONS)
    wide.ask()
    assert (tracemalloc.get_traced_memory()[1] > 8 * 300**2) == row.squared
    tracemalloc.stop()


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


def test_gauss_newton_solves_a_linear_problem_at_once() -> None:
    """With every direction and room enough, one step is the solution."""
    problem = Least()
    search = GaussNewton(DIMENSION, 0, DIMENSION + 1, 100.0, 3)
    search.tell(problem.evaluate(search.ask()))
    np.testing.assert_allclose(search.center, problem.solution, atol=1e-6)


def test_gauss_newton_reaches_the_solution_with_half_the_directions() -> None:
    problem = Least()
    search = GaussNewton(DIMENSION, 0, 7, 100.0, 30, fading=0.7, final_radius=1.0)
    run(search, problem, 30)
    assert problem.loss(search.center) < 1e-2 * problem.loss(np.zeros(DIMENSION))


def test_gauss_newton_looks_along_the_most_curved_directions_again() -> None:
    problem = Least()
    search = GaussNewton(DIMENSION, 0, 7, 0.3, GENERATIONS)
    run(search, problem, 20)
    curvature = problem.matrix.T @ problem.matrix
    points = search.ask()
    directions = (points[1:] - points[0]) / (0.3 * DIMENSION**0.5)
    np.testing.assert_allclose(directions @ directions.T, np.eye(6), atol=1e-10)
    along = ((directions @ curvature) * directions).sum(1)
    assert along[:3].min() > along[3:].max()


@pytest.mark.parametrize("seed", range(3))
def test_gauss_newton_forgets_only_what_it_measures_anew(seed: int) -> None:
    """One direction at a time, nothing fading: all of them are remembered until their turn."""
    problem = Least(seed)
    search = GaussNewton(DIMENSION, seed, 2, 0.3, 200, known=0.0, fading=1.0)
    run(search, problem, 200)
    assert problem.loss(search.center) < 1e-2 * problem.loss(np.zeros(DIMENSION))


@pytest.mark.parametrize("seed", range(5))
def test_gauss_newton_averages_noise_away(seed: int) -> None:
    """With residuals that are noisy in every generation anew, the centre beats the last point."""
    problem, search = Least(seed), GaussNewton(DIMENSION, seed, 13, 0.3, GENERATIONS)
    solution, rng = problem.solution, np.random.default_rng(seed)
    for _ in range(GENERATIONS):
        problem.solution = solution + 0.3 * rng.standard_normal(DIMENSION)
        search.tell(problem.evaluate(search.ask()))
    problem.solution = solution
    assert problem.loss(search.center) < problem.loss(search.ask()[0])


@given(st.integers(0, 2**31), st.integers(1, 8), st.floats(0.01, 10))
def test_the_trust_region_step_is_the_minimiser(seed: int, rank: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((rank, 6))
    hessian, descent = root.T @ root, rng.standard_normal(6)
    step = trust_region_step(hessian, descent, radius)

    def model(s: Coords) -> float:
        return float(0.5 * s @ hessian @ s - descent @ s)

    assert np.linalg.norm(step) <= radius * 1.001
    for _ in range(30):
        other = rng.standard_normal(6)
        other *= radius * rng.random() / np.linalg.norm(other)
        assert model(step) <= model(other) + 1e-3 * abs(model(other)) + 1e-9


def test_gauss_newton_weighs_late_points_most() -> None:
    """Polynomial-decay averaging: point n weighs n (n + 1) (n + 2), the cube for large n."""
    problem, search = Least(), GaussNewton(DIMENSION, 0, 7, 0.3, 9)
    points = []
    for n in range(1, 10):
        search.tell(problem.evaluate(search.ask()))
        points.append(search.ask()[0])
        weights = [i * (i + 1) * (i + 2) for i in range(1, n + 1)]
        np.testing.assert_allclose(search.center, np.average(points, 0, weights))


@pytest.mark.parametrize("generations", [1, 2, 5])
def test_gauss_newton_ends_with_a_tenth_of_its_first_radius(generations: int) -> None:
    """It falls by the same factor in every generation, and no further."""
    problem, search = Least(), GaussNewton(DIMENSION, 0, 7, 0.3, generations)
    steps = max(1, generations - 1)
    for done in range(generations + 2):
        radius = 8 * 0.3 * 0.1 ** min(1, done / steps)
        assert search.sigma == pytest.approx(radius)
        before = search.ask()
        search.tell(problem.evaluate(before))
        length = np.linalg.norm(search.ask()[0] - before[0])
        assert length <= 1.001 * radius * DIMENSION**0.5 or done == 0


def test_gauss_newton_goes_on_with_some_directions_but_not_without_a_centre() -> None:
    problem, search = Least(), GaussNewton(DIMENSION, 0, 7, 0.3, 9)
    gram = problem.evaluate(search.ask()).gram
    assert gram is not None
    for failed in (slice(0, 1), slice(1, None)):
        damaged = gram.copy()
        damaged[failed] = damaged[:, failed] = np.nan
        with pytest.raises(SearchError, match="at the centre or all around it"):
            search.tell(Evaluation(np.zeros(7), damaged))
    with pytest.raises(SearchError, match="at the centre or all around it"):
        search.tell(Evaluation(np.zeros(7)))
    assert (search.center == 0).all()
    gram[2:] = gram[:, 2:] = np.nan
    search.tell(Evaluation(np.zeros(7), gram))
    assert (search.center != 0).any()


def test_cma_learns_what_goes_together_and_its_separable_form_does_not() -> None:
    found = {}
    for name in ("cma", "sep-cma"):
        search = SEARCHES[name].load()(2, 0, 40, 0.3, 40)
        for _ in range(40):
            asked = search.ask()
            search.tell(Evaluation(100 * (asked.sum(1)) ** 2 + (asked[:, 0] - 1) ** 2))
        found[name] = np.corrcoef(search.ask().T)[0, 1]
    assert found["cma"] < -0.9 and abs(found["sep-cma"]) < 0.5
