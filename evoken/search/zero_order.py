"""Zeroth-order Adam: a random gradient estimate (Nesterov & Spokoiny 2017), as in ZOODiP."""

import numpy as np

from evoken.arrays import Coords
from evoken.evaluation.chunks import Evaluation
from evoken.search.base import Search, without_failures
from evoken.seeds import numpy_generator


class ZeroOrderAdam(Search):
    """g = mean_i (L(x + mu u_i) - L(x)) / mu u_i with normal u_i, fed to Adam (Kingma & Ba 2015).

    Source: Seo et al. 2025 (ZOODiP), random gradient estimation with shared random numbers.
    """

    def __init__(
        self,
        dimension: int,
        seed: int,
        popsize: int,
        sigma: float,
        generations: int,
        difference: float = 0.05,
    ) -> None:
        """``sigma`` is Adam's learning rate in coords, falling linearly to a tenth; candidates lie
        ``difference`` from the centre.
        """
        self._rng = numpy_generator(seed, 0, "zero order")
        self._directions = np.zeros((popsize - 1, dimension))
        self._x, self._m, self._v = (np.zeros(dimension) for _ in range(3))
        self._step, self._rate, self._generations = 0, sigma, generations
        self._difference = difference

    def ask(self) -> Coords:
        self._directions = self._rng.standard_normal(self._directions.shape)
        return np.vstack([self._x, self._x + self._difference * self._directions])

    def tell(self, evaluation: Evaluation) -> None:
        losses = without_failures(evaluation.losses)
        slopes = (losses[1:] - losses[0]) / self._difference
        gradient = slopes @ self._directions / len(slopes)
        rate = self.sigma
        self._step += 1
        self._m = 0.9 * self._m + 0.1 * gradient
        self._v = 0.99 * self._v + 0.01 * gradient**2
        m = self._m / (1 - 0.9**self._step)
        v = self._v / (1 - 0.99**self._step)
        self._x = self._x - rate * m / (np.sqrt(v) + 1e-12)

    @property
    def center(self) -> Coords:
        return self._x.copy()

    @property
    def sigma(self) -> float:
        left = 1 - min(1.0, self._step / max(1, self._generations))
        return self._rate * (0.1 + 0.9 * left)
