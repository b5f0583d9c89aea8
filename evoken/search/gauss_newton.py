"""Derivative-free Gauss-Newton: the residual vector, not only its norm.

Finite differences of the residual along k directions give its Jacobian J there; J'J and J'r are a
k x k matrix and k numbers, summed over draws. Known from derivative-free least squares (DFO-LS,
Cartis & Roberts 2019) and ensemble Kalman inversion.

Three choices make it work with k much smaller than the dimension. Half of the directions are those
along which the residual is known to change most, half are new. A quadratic model of the loss sums
up what all generations measured. Where a generation measures again, and only there, the model
forgets its old slopes, which mislead because the residual is not linear.
"""

import numpy as np

from evoken.arrays import Coords
from evoken.errors import SearchError
from evoken.evaluation.chunks import Evaluation
from evoken.search.base import Search
from evoken.seeds import numpy_generator

# Polynomial-decay averaging (Shamir & Zhang 2013): point n of N weighs about as (n / N)^AVERAGING.
AVERAGING = 3.0


class GaussNewton(Search):
    """Candidates are the centre and k points around it; the step minimises the model within
    a trust radius that falls over the run (a test on few fresh draws would be noise itself).
    """

    def __init__(
        self,
        dimension: int,
        seed: int,
        popsize: int,
        sigma: float,
        generations: int,
        reach: float = 8.0,
        known: float = 0.5,
        refreshing: float = 0.7,
        fading: float = 0.9,
        final_radius: float = 0.1,
    ) -> None:
        """
        Args:
            popsize: candidates per generation, k + 1.
            sigma: length of a finite difference, per coordinate (sigma * sqrt(dimension) in all).
                It should stand out from the rounding of half precision.
            generations: over which the trust radius falls.
            reach: first trust radius, in lengths of a finite difference.
            known: share of the directions that are the model's most curved.
            refreshing: share of the model that is forgotten along directions measured anew.
            fading: weight of the rest of the model after each further generation.
            final_radius: share of the first radius that is left at the end.
        """
        self._rng = numpy_generator(seed, 0, "gauss-newton")
        self._count = self.candidates(popsize, dimension) - 1
        self._dimension, self._generation, self._generations = dimension, 0, generations
        self._reach, self._final = reach * sigma, final_radius
        self._known, self._refreshing, self._fading = known, refreshing, fading
        self._difference = sigma * dimension**0.5
        self._x = np.zeros(dimension)
        self._average = np.zeros(dimension)
        self._directions = np.zeros((self._count, dimension))
        # The model around the centre: slope' s + 1/2 s' hessian s.
        self._hessian = np.zeros((dimension, dimension))
        self._slope = np.zeros(dimension)

    @classmethod
    def candidates(cls, popsize: int, dimension: int) -> int:
        """The centre, and no more directions than there are dimensions."""
        return min(popsize, dimension + 1)

    def ask(self) -> Coords:
        known = int(self._known * self._count) if self._hessian.any() else 0
        curved = np.linalg.eigh(self._hessian)[1][:, ::-1][:, :known]
        new = self._rng.standard_normal((self._dimension, self._count - known))
        new -= curved @ (curved.T @ new)
        self._directions = np.vstack([curved.T, np.linalg.qr(new)[0].T])
        return np.vstack([self._x, self._x + self._difference * self._directions])

    def tell(self, evaluation: Evaluation) -> None:
        gram, kept = _without_failures(evaluation.gram)
        measured = self._directions[kept]
        self._forget(measured)
        self._hessian += measured.T @ (gram[1:, 1:] / self._difference**2) @ measured
        self._slope += measured.T @ (gram[1:, 0] / self._difference)
        radius = self.sigma * self._dimension**0.5
        step = trust_region_step(self._hessian, -self._slope, radius)
        self._x = self._x + step
        self._slope += self._hessian @ step
        self._generation += 1
        share = (AVERAGING + 1) / (AVERAGING + self._generation)
        self._average += min(1.0, share) * (self._x - self._average)

    def _forget(self, directions: np.ndarray) -> None:
        """Shrink the model, along these orthonormal directions more than elsewhere."""
        keep = np.eye(self._dimension) - self._refreshing * directions.T @ directions
        self._hessian = self._fading * keep @ self._hessian @ keep
        self._slope = self._fading * keep @ self._slope

    @property
    def center(self) -> Coords:
        """The mean of the points so far, late ones weighing more."""
        return self._average.copy()

    @property
    def sigma(self) -> float:
        """The trust radius, per coordinate."""
        done = min(1.0, self._generation / max(1, self._generations - 1))
        return float(self._reach * self._final**done)


def _without_failures(gram: Coords | None) -> tuple[Coords, Coords]:
    """The Gram matrix of the finite residuals, and which directions they belong to."""
    finite = np.zeros(0, bool) if gram is None else np.isfinite(np.diag(gram))
    if gram is None or not finite[:1].any() or not finite[1:].any():
        raise SearchError(
            "the residuals at the centre or all around it are NaN or infinite.",
            "Set `precision` to float32, and lower `sigma`.",
        )
    return gram[np.ix_(finite, finite)], finite[1:]


def trust_region_step(hessian: np.ndarray, descent: np.ndarray, radius: float) -> np.ndarray:
    """The minimiser of 1/2 s' H s - descent' s with |s| <= radius, for positive semidefinite H.

    The damping lambda of (H + lambda I) s = descent is found by bisection (More & Sorensen 1983).
    """
    values, axes = np.linalg.eigh(hessian)
    values = values.clip(min=0)
    along = axes.T @ descent

    def length(damping: float) -> float:
        return float(np.linalg.norm(along / (values + damping)))

    low = max(1e-9 * values[-1], 1e-300)
    if length(low) <= radius:
        return np.asarray(axes @ (along / (values + low)))
    high = float(np.linalg.norm(descent)) / radius  # |s| <= |descent| / damping
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if length(middle) > radius else (low, middle)
    return np.asarray(axes @ (along / (values + high)))
