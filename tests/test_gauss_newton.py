"""What the default search claims for itself, beside the battery of ``test_search.py``."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoken.arrays import Coords
from evoken.errors import SearchError
from evoken.evaluation.chunks import Evaluation
from evoken.search.gauss_newton import GaussNewton, trust_region_step
from evoken.seeds import numpy_generator
from tests.least_squares import DIMENSION, GENERATIONS, Least, evaluation_of, run


class Dense:
    """The search as its formulas are: matrices of dimension x dimension. Settings are its own."""

    def __init__(
        self, dimension: int, seed: int, popsize: int, sigma: float, generations: int, kept: int
    ) -> None:
        self.rng = numpy_generator(seed, 0, "gauss-newton")
        self.dimension, self.count, self.generations = dimension, popsize - 1, generations
        self.difference, self.done, self.kept = sigma * dimension**0.5, 0, kept
        self.x, self.average, self.slope = (np.zeros(dimension) for _ in range(3))
        self.hessian = np.zeros((dimension, dimension))

    def ask(self) -> Coords:
        known = self.count // 2 if self.done else 0
        curved = np.linalg.eigh(self.hessian)[1][:, ::-1][:, :known].T
        curved *= np.sign([row[np.abs(row).argmax()] for row in curved]).reshape(-1, 1)
        new = self.rng.standard_normal((self.dimension, self.count - known))
        new -= curved.T @ curved @ new
        self.directions = np.vstack([curved, np.linalg.qr(new)[0].T])
        return np.vstack([self.x, self.x + self.difference * self.directions])

    def tell(self, evaluation: Evaluation) -> None:
        gram, d = evaluation.gram, self.directions
        assert gram is not None
        keep = np.eye(self.dimension) - 0.7 * d.T @ d
        self.hessian = 0.9 * keep @ self.hessian @ keep
        self.hessian += d.T @ gram[1:, 1:] @ d / self.difference**2
        self.slope = 0.9 * keep @ self.slope + d.T @ gram[1:, 0] / self.difference
        share = min(1.0, self.done / (self.generations - 1))
        radius = 8 * self.difference * 0.1**share
        step = trust_region_step(*np.linalg.eigh(self.hessian), -self.slope, radius)
        self.x, self.slope = self.x + step, self.slope + self.hessian @ step
        self.done += 1
        self.average = self.average + min(1.0, 4 / (3 + self.done)) * (self.x - self.average)
        # What is forgotten; the slope lies where the curvature is not zero.
        values, axes = np.linalg.eigh(self.hessian)
        values, axes = values[-self.kept :], axes[:, -self.kept :]
        self.hessian, self.slope = axes * values @ axes.T, axes @ (axes.T @ self.slope)


class Curved:
    """Residuals that are not linear, and change along some random directions alone."""

    def __init__(self, dimension: int, heard: int) -> None:
        rng = np.random.default_rng(dimension)
        self.axes = np.linalg.qr(rng.standard_normal((dimension, heard)))[0]
        self.matrix = rng.standard_normal((2 * heard, heard)) * np.geomspace(1, 0.3, heard)
        self.wanted = rng.standard_normal(2 * heard)

    def evaluate(self, coords: Coords) -> Evaluation:
        along = coords @ self.axes @ self.matrix.T
        return evaluation_of(along + 2 * np.sin(along / 2) - self.wanted)


@pytest.mark.parametrize(
    ("dimension", "heard", "popsize", "kept", "generations"),
    [
        (12, 12, 13, 12, 12),  # all directions in every generation
        (40, 40, 13, 40, 12),  # the basis grows to the whole space
        (300, 40, 21, 768, 12),  # and is far from it
        (60, 30, 13, 24, 12),  # directions are forgotten
        (300, 20, 21, 45, 12),
        (60, 30, 13, 2, 12),  # all but those just measured are
    ],
)
def test_it_equals_dense_matrices(
    dimension: int, heard: int, popsize: int, kept: int, generations: int
) -> None:
    problem = Curved(dimension, heard)
    search = GaussNewton(dimension, 3, popsize, 0.3, generations, kept=kept)
    dense = Dense(dimension, 3, popsize, 0.3, generations, max(kept, popsize - 1))
    for _ in range(generations):
        asked = search.ask()
        np.testing.assert_allclose(asked, dense.ask(), atol=1e-5)
        search.tell(problem.evaluate(asked))
        dense.tell(problem.evaluate(asked))
        np.testing.assert_allclose(search.center, dense.average, atol=1e-5)
    assert np.abs(dense.average).max() > 0.1


@given(st.integers(0, 2**31), st.integers(2, 8), st.integers(1, 12))
def test_its_directions_are_orthonormal_however_few_it_keeps(
    seed: int, count: int, kept: int
) -> None:
    search, rng = GaussNewton(20, seed, count + 1, 0.3, 9, kept=kept), np.random.default_rng(seed)
    for _ in range(12):
        points = search.ask()
        directions = (points[1:] - points[0]) / (0.3 * 20**0.5)
        np.testing.assert_allclose(directions @ directions.T, np.eye(count), atol=1e-9)
        residuals = rng.standard_normal((count + 1, 5))
        residuals[rng.integers(1, count + 1)] = np.nan if count > 1 else 0
        search.tell(evaluation_of(residuals))
        assert np.isfinite(search.center).all()


def test_it_forgets_the_least_curved_directions_first() -> None:
    """With room for six of twelve, it still knows which three are the most curved."""
    problem = Least()
    problem.matrix = np.diag(np.r_[np.full(3, 3.0), np.geomspace(1, 0.1, DIMENSION - 3)])
    search = GaussNewton(DIMENSION, 0, 7, 0.3, GENERATIONS, kept=6)
    run(search, problem, 20)
    points = search.ask()
    directions = (points[1:4] - points[0]) / (0.3 * DIMENSION**0.5)
    assert (directions[:, :3] ** 2).sum() > 2.99


def test_twenty_thousand_dimensions_fit_into_little_memory() -> None:
    dimension, popsize = 20_480, 9
    residuals = np.random.default_rng(0).standard_normal((popsize, 30))
    tracemalloc.start()
    search = GaussNewton(dimension, 0, popsize, 0.3, 9, kept=16)
    for _ in range(4):  # past the first cut
        search.ask()
        search.tell(evaluation_of(residuals))
    needed = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert needed < 10 * 8 * popsize * dimension
    assert GaussNewton.memory(61, dimension) < 400e6


def test_new_directions_are_among_those_that_are_heard() -> None:
    rng = np.random.default_rng(0)
    heard = np.linalg.qr(rng.standard_normal((60, 20)))[0]
    search = GaussNewton(60, 0, 9, 0.3, 9)
    search.hear(rng.standard_normal((40, 20)) @ heard.T)
    for _ in range(3):
        points = search.ask()
        directions = (points[1:] - points[0]) / (0.3 * 60**0.5)
        assert (np.linalg.norm(directions @ heard, axis=1) > 0.99).all()
        search.tell(Curved(60, 20).evaluate(points))


@pytest.mark.parametrize("few", [0, 1, 5])
def test_where_few_directions_are_heard_others_are_measured_too(few: int) -> None:
    heard = np.linalg.qr(np.random.default_rng(0).standard_normal((60, max(1, few))))[0].T
    search = GaussNewton(60, 0, 9, 0.3, 9)
    search.hear(heard * min(1, few))
    points = search.ask()
    directions = (points[1:] - points[0]) / (0.3 * 60**0.5)
    np.testing.assert_allclose(directions @ directions.T, np.eye(8), atol=1e-9)
    assert ((directions @ heard.T) ** 2).sum() > 0.99 * few


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
    step = trust_region_step(*np.linalg.eigh(hessian), descent, radius)

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
