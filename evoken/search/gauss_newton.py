"""Derivative-free Gauss-Newton: the residual vector, not only its norm.

Finite differences of the residual along k directions give its Jacobian J there; J'J and J'r are a
k x k matrix and k numbers, summed over draws. Known from derivative-free least squares (DFO-LS,
Cartis & Roberts 2019) and ensemble Kalman inversion; here every generation's quadratic model is
kept, with fading weight, so that a step rests on all passes made so far and not on a few draws.
"""

import numpy as np

from evoken.arrays import Coords
from evoken.errors import SearchError
from evoken.seeds import numpy_generator
from evoken.textual_inversion.objective import Evaluation


class GaussNewton:
    """Candidates are the centre and k points around it; the step minimises the summed models within
    a trust radius that falls over the run (a test on few fresh draws would be noise itself).
    """

    wants_gram = True

    def __init__(
        self,
        dimension: int,
        seed: int,
        popsize: int,
        sigma: float,
        generations: int,
        difference: float = 0.05,
        fading: float = 0.9,
        final_radius: float = 0.1,
    ) -> None:
        """
        Args:
            popsize: candidates per generation, k + 1.
            sigma: first trust radius, per coordinate (the radius is sigma * sqrt(dimension)).
            generations: over which the radius falls.
            difference: length of a finite difference, as a share of the vocabulary's spread.
            fading: weight of a model after each further generation.
            final_radius: share of the first radius that is left at the end.
        """
        self._rng = numpy_generator(seed, 0, "gauss-newton")
        self._count = min(popsize - 1, dimension)
        self._dimension, self._generation, self._generations = dimension, 0, generations
        self._radius, self._final, self._fading = sigma, final_radius, fading
        self._difference = difference * dimension**0.5
        self._x = np.zeros(dimension)
        self._directions = np.zeros((self._count, dimension))
        # The summed models: 1/2 x' hessian x - pull' x.
        self._hessian = np.zeros((dimension, dimension))
        self._pull = np.zeros(dimension)

    def ask(self) -> Coords:
        normal = self._rng.standard_normal((self._dimension, self._count))
        self._directions = np.linalg.qr(normal)[0].T
        return np.vstack([self._x, self._x + self._difference * self._directions])

    def tell(self, evaluation: Evaluation) -> None:
        gram, kept = _without_failures(evaluation.gram)
        u = self._directions[kept]
        hessian = u.T @ (gram[1:, 1:] / self._difference**2) @ u
        gradient = u.T @ (gram[1:, 0] / self._difference)
        self._hessian = self._fading * self._hessian + hessian
        self._pull = self._fading * self._pull + hessian @ self._x - gradient
        radius = self.sigma * self._dimension**0.5
        self._x = self._x + trust_region_step(
            self._hessian, self._pull - self._hessian @ self._x, radius
        )
        self._generation += 1

    @property
    def center(self) -> Coords:
        return self._x.copy()

    @property
    def sigma(self) -> float:
        done = min(1.0, self._generation / max(1, self._generations - 1))
        return float(self._radius * self._final**done)


def _without_failures(gram: Coords | None) -> tuple[Coords, Coords]:
    """The Gram matrix of the finite residuals, and which directions they belong to."""
    finite = np.zeros(0, bool) if gram is None else np.isfinite(np.diag(gram))
    if gram is None or not finite[:1].any() or not finite[1:].any():
        raise SearchError("finite residuals at the centre and around it", "NaN or infinite values",
                          "Use float32 precision and a smaller --sigma.")  # fmt: skip
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
