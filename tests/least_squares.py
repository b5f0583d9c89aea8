"""A problem for searches."""

import numpy as np

from evoken.arrays import Coords
from evoken.evaluation.chunks import Evaluation
from evoken.search.base import Search

DIMENSION, POPSIZE, GENERATIONS = 12, 13, 60


def evaluation_of(residuals: Coords) -> Evaluation:
    """Of candidate x residual."""
    relative = np.vstack([residuals[:1], residuals[1:] - residuals[:1]])
    gram = relative @ relative.T / residuals.shape[1]
    return Evaluation((residuals**2).mean(1), gram)


class Least:
    """A linear least-squares problem: residuals A x - b with a known solution."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.solution = rng.standard_normal(DIMENSION) * 0.5
        self.matrix = rng.standard_normal((40, DIMENSION)) * np.linspace(2, 0.5, DIMENSION)

    def evaluate(self, coords: Coords) -> Evaluation:
        return evaluation_of((coords - self.solution) @ self.matrix.T)

    def loss(self, coords: Coords) -> float:
        return float(self.evaluate(coords[None]).losses[0])


def run(search: Search, problem: Least, generations: int = GENERATIONS) -> list[Evaluation]:
    told = []
    for _ in range(generations):
        told.append(problem.evaluate(search.ask()))
        search.tell(told[-1])
    return told
