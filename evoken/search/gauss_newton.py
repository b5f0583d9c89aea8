"""Derivative-free Gauss-Newton: the residual vector, not only its norm.

Finite differences of the residual along k directions give its Jacobian J there; J'J and J'r are a
k x k matrix and k numbers, summed over draws. Known from derivative-free least squares (DFO-LS,
Cartis & Roberts 2019) and ensemble Kalman inversion.

Three choices make it work with k much smaller than the dimension. Half of the directions are those
along which the residual is known to change most, half are new. A quadratic model of the loss sums
up what all generations measured. Where a generation measures again, and only there, the model
forgets its old slopes, which mislead because the residual is not linear.

The model knows nothing of directions that were never measured: its slope, its curvature and its
steps lie in the span of those that were. So it is kept in an orthonormal basis of this span, and
memory and time are proportional to the dimension.
"""

import numpy as np

from evoken.arrays import Coords
from evoken.errors import SearchError
from evoken.evaluation.chunks import Evaluation
from evoken.search.base import Search
from evoken.search.table import SEARCHES
from evoken.seeds import numpy_generator

# Polynomial-decay averaging (Shamir & Zhang 2013): point n of N weighs about as (n / N)^AVERAGING.
AVERAGING = 3.0
# Directions of the basis. A word of Stable Diffusion 1.5 has as many dimensions, and a run of
# 12,000 calls measures 660 directions: the model of these is exact.
KEPT = 768
# Part of a direction of length 1 that the basis may miss.
ROUNDING = 1e-8
# Share of all directions in those that are drawn from the ones that the denoiser hears.
UNHEARD = 0.01
BLOCK = 2048  # dimensions that are rotated at a time


class GaussNewton(Search):
    """Candidates are the centre and k points around it; the step minimises the model within
    a trust radius that falls over the run (a test on few fresh draws would be noise itself).
    """

    revision = 2  # 1 kept its model in all dimensions, and heard nothing

    def __init__(
        self,
        dimension: int,
        seed: int,
        popsize: int,
        sigma: float,
        generations: int,
        reach: float = SEARCHES["gauss-newton"].reach,
        known: float = 0.5,
        refreshing: float = 0.7,
        fading: float = 0.9,
        final_radius: float = 0.1,
        kept: int = KEPT,
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
            kept: directions that the model remembers, or k if that is more; those in which the loss
                is least curved are forgotten.
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
        self._heard: Coords | None = None
        # Rows of it are the basis; a generation adds to it before it is cut to size.
        self._kept = max(kept, self._count)
        self._room = np.empty((min(dimension, self._kept + self._count), dimension))
        # The model around the centre, in the basis: slope' s + 1/2 s' hessian s.
        self._hessian = np.zeros((0, 0))
        self._slope = np.zeros(0)
        self._values, self._axes = np.zeros(0), np.zeros((0, 0))  # eigenpairs, ascending
        self._again = np.zeros((0, 0))  # in the basis: those of the directions that it had before

    @classmethod
    def candidates(cls, popsize: int, dimension: int) -> int:
        """The centre, and no more directions than there are dimensions."""
        return min(popsize, dimension + 1)

    @classmethod
    def memory(cls, popsize: int, dimension: int) -> int:
        """Numbers of every dimension for the directions of the basis and for what is heard."""
        directions = min(dimension, max(KEPT, popsize) + popsize)
        return 16 * directions * dimension + super().memory(popsize, dimension)

    def hear(self, directions: Coords) -> None:
        self._heard = directions

    @property
    def _basis(self) -> Coords:
        """Orthonormal, direction x dimension."""
        return self._room[: len(self._slope)]

    def ask(self) -> Coords:
        known = min(int(self._known * self._count), len(self._values))
        again = self._axes[:, ::-1][:, :known].T
        curved = again @ self._basis
        # The sign of an eigenvector is arbitrary; fixed, so that every machine measures the same.
        largest = np.abs(curved).argmax(1)[:, None]
        signs = np.sign(np.take_along_axis(curved, largest, 1))
        self._again, curved = signs * again, signs * curved
        new = self._drawn(self._count - known)
        new -= curved.T @ (curved @ new)
        self._directions = np.vstack([curved, np.linalg.qr(new)[0].T])
        return np.vstack([self._x, self._x + self._difference * self._directions])

    def _drawn(self, count: int) -> Coords:
        """Random directions, dimension x count, of those that are heard if these are known."""
        everywhere = self._rng.standard_normal((self._dimension, count))
        if self._heard is None:
            return everywhere
        found = self._heard.T @ self._rng.standard_normal((len(self._heard), count))
        # Where fewer are heard than are asked for, others have to stand in.
        size = np.linalg.norm(found) / np.linalg.norm(everywhere)
        return np.asarray(found + UNHEARD * (size or 1.0) * everywhere)

    def tell(self, evaluation: Evaluation) -> None:
        gram, finite = _without_failures(evaluation.gram)
        measured = self._in_basis(finite)
        self._forget(measured)
        self._hessian += measured.T @ (gram[1:, 1:] / self._difference**2) @ measured
        self._slope += measured.T @ (gram[1:, 0] / self._difference)
        self._values, self._axes = np.linalg.eigh(self._hessian)
        radius = self.sigma * self._dimension**0.5
        step = trust_region_step(self._values, self._axes, -self._slope, radius)
        self._x = self._x + step @ self._basis
        self._slope += self._hessian @ step
        self._generation += 1
        share = (AVERAGING + 1) / (AVERAGING + self._generation)
        self._average += min(1.0, share) * (self._x - self._average)
        if len(self._slope) > self._kept:
            self._cut(len(self._slope) - self._kept)

    def _in_basis(self, finite: np.ndarray) -> np.ndarray:
        """The measured directions, direction x basis, which grows for them."""
        known, before = len(self._again), len(self._slope)
        new = self._directions[known:][finite[known:]]
        along = new @ self._basis.T
        rest = new - along @ self._basis
        rest -= rest @ self._basis.T @ self._basis  # once more, for what rounding left
        turned, lengths, added = np.linalg.svd(rest, full_matrices=False)
        more = int((lengths > ROUNDING).sum())
        self._room[before : before + more] = added[:more]
        self._slope = np.pad(self._slope, (0, more))
        self._hessian = np.pad(self._hessian, (0, more))
        again = np.pad(self._again[finite[:known]], ((0, 0), (0, more)))
        return np.vstack([again, np.hstack([along, turned[:, :more] * lengths[:more]])])

    def _forget(self, directions: np.ndarray) -> None:
        """Shrink the model, along these orthonormal directions more than elsewhere."""

        def shrunk(x: np.ndarray) -> np.ndarray:
            return np.asarray(x - self._refreshing * directions.T @ (directions @ x))

        self._hessian = self._fading * shrunk(shrunk(self._hessian).T)
        self._slope = self._fading * shrunk(self._slope)

    def _cut(self, count: int) -> None:
        """Leave the least curved directions out of the basis.

        A block reflector (Schreiber & Parlett 1988) turns them into its last rows: less work than
        to compute the others by a rotation.
        """
        least = self._axes[:, :count]
        left, _, right = np.linalg.svd(least[-count:])
        mirror = least.copy()
        mirror[-count:] += left @ right  # the orthogonal polar factor
        inner = 2 * np.linalg.inv(mirror.T @ mirror)

        def reflected(x: np.ndarray) -> np.ndarray:
            return np.asarray(x - mirror @ (inner @ (mirror.T @ x)))

        for i in range(0, self._dimension, BLOCK):
            self._basis[:, i : i + BLOCK] = reflected(self._basis[:, i : i + BLOCK])
        self._values, self._axes = self._values[count:], reflected(self._axes[:, count:])[:-count]
        self._hessian = self._axes * self._values @ self._axes.T
        self._slope = reflected(self._slope)[:-count]

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


def trust_region_step(
    values: np.ndarray, axes: np.ndarray, descent: np.ndarray, radius: float
) -> np.ndarray:
    """The minimiser of 1/2 s' H s - descent' s with |s| <= radius, for positive semidefinite H.

    The damping lambda of (H + lambda I) s = descent is found by bisection (More & Sorensen 1983).

    Args:
        values, axes: H's eigenvalues, ascending, and eigenvectors, in columns.
    """
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
