"""CMA-ES (Hansen & Ostermeier 2001; paper 3.3, Eq. 3), by pycma."""

import warnings
from typing import ClassVar

import numpy as np

from evoken.arrays import Coords
from evoken.evaluation.chunks import Evaluation
from evoken.search.base import Search, without_failures
from evoken.seeds import numpy_generator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that there is no matplotlib for its plots
    import cma


class CMAES(Search):
    """Full covariance; ``center`` is the mean of the search distribution.

    Differs: the paper returns the best candidate ever seen; with noisy losses that is the luckiest
    one, and the mean is the better estimate (pycma's documentation says so too).
    """

    separable: ClassVar[bool] = False

    def __init__(
        self, dimension: int, seed: int, popsize: int, sigma: float, generations: int
    ) -> None:
        rng = numpy_generator(seed, 0, "cma")
        options = {
            "popsize": popsize,
            "CMA_diagonal": self.separable,
            "randn": lambda *shape: rng.standard_normal(shape),  # pycma's own would be global
            "seed": np.nan,
            "verbose": -9,
        }
        self._strategy = cma.CMAEvolutionStrategy(np.zeros(dimension), sigma, options)
        self._asked: list[np.ndarray] = []
        self._best = np.zeros(dimension)

    @classmethod
    def memory(cls, popsize: int, dimension: int) -> int:
        """It keeps numbers for all pairs of dimensions."""
        pairs = 0 if cls.separable else 24 * dimension**2
        return pairs + super().memory(popsize, dimension)

    def ask(self) -> Coords:
        self._asked = self._strategy.ask()  # (Eq. 3)
        return np.stack(self._asked)

    def tell(self, evaluation: Evaluation) -> None:
        losses = without_failures(evaluation.losses)
        self._best = self._asked[int(losses.argmin())].copy()
        self._strategy.tell(self._asked, losses.tolist())

    @property
    def center(self) -> Coords:
        return np.array(self._strategy.mean)

    @property
    def best(self) -> Coords:
        return self._best

    @property
    def sigma(self) -> float:
        return float(self._strategy.sigma)


class SeparableCMAES(CMAES):
    """Variances of the coordinates alone: quick in many dimensions (Ros & Hansen 2008)."""

    separable = True
