"""Random search around the best point so far: the yardstick that every other search must beat."""

import numpy as np

from evoken.arrays import Coords
from evoken.evaluation.chunks import Evaluation
from evoken.search.base import Search, without_failures
from evoken.seeds import numpy_generator


class RandomSearch(Search):
    """A (1 + lambda) search: the incumbent is compared on the same draws as its challengers."""

    def __init__(
        self, dimension: int, seed: int, popsize: int, sigma: float, generations: int
    ) -> None:
        self._rng = numpy_generator(seed, 0, "random search")
        self._asked = np.zeros((popsize, dimension))
        self._best, self._sigma = np.zeros(dimension), sigma

    def ask(self) -> Coords:
        steps = self._sigma * self._rng.standard_normal(self._asked.shape)
        steps[0] = 0
        self._asked = self._best + steps
        return self._asked.copy()

    def tell(self, evaluation: Evaluation) -> None:
        losses = without_failures(evaluation.losses)
        self._best = self._asked[int(losses.argmin())]

    @property
    def center(self) -> Coords:
        return self._best.copy()

    @property
    def sigma(self) -> float:
        return self._sigma
