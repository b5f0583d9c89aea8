"""What the learning loop asks of a search, and how failed candidates are treated."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from evoken.arrays import Coords, Losses
from evoken.errors import SearchError
from evoken.evaluation.chunks import Evaluation


class Search(ABC):
    """A search on coords: ask for candidates, tell how they did.

    A search is deterministic: the same seed, the same directions heard and the same evaluations
    give the same candidates, so a run is resumed by telling the recorded evaluations again.

    Attributes:
        revision: raised when the same evaluations give other candidates than before, so that no run
            goes on which began with those.
    """

    revision: ClassVar[int] = 1

    @abstractmethod
    def __init__(
        self, dimension: int, seed: int, popsize: int, sigma: float, generations: int
    ) -> None:
        """
        Args:
            popsize: of a generation, see ``candidates``.
            sigma: how long the first steps are, per coordinate: how far the first candidates lie
                from the centre, unless a search says otherwise.
            generations: how many the budget allows, for searches that plan ahead.
        """

    @classmethod
    def candidates(cls, popsize: int, dimension: int) -> int:
        """How many candidates each ``ask`` gives."""
        return popsize

    @classmethod
    def memory(cls, popsize: int, dimension: int) -> int:
        """About how many bytes it needs at most."""
        return 80 * popsize * dimension

    def hear(self, directions: Coords) -> None:
        """Learn before the first ``ask`` along which directions a loss can change at all, direction
        x dimension: along combinations of these. Most searches make no use of it.
        """
        return

    @abstractmethod
    def ask(self) -> Coords:
        """Candidate x dimension: the candidates of the next generation."""

    @abstractmethod
    def tell(self, evaluation: Evaluation) -> None:
        """How the candidates of the last ``ask`` did.

        Raises:
            SearchError: every candidate failed.
        """

    @property
    @abstractmethod
    def center(self) -> Coords:
        """dimension: where the search stands; what a run takes as its word."""

    @property
    def best(self) -> Coords:
        """dimension: the last generation's best candidate; the centre where none is one."""
        return self.center

    @property
    @abstractmethod
    def sigma(self) -> float:
        """Typical length of the next step, per coordinate."""


def without_failures(losses: Losses) -> Losses:
    """Failed candidates (NaN or infinite) get the worst finite loss of their generation.

    Raises:
        SearchError: no finite loss at all.
    """
    finite = np.isfinite(losses)
    if not finite.any():
        raise SearchError(
            f"all {len(losses)} candidates have NaN or infinite losses.",
            "Set `precision` to float32, and lower `sigma`.",
        )
    return np.where(finite, losses, losses[finite].max())
