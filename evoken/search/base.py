"""What the learning loop asks of a search, and how failed candidates are treated."""

from typing import Protocol

import numpy as np

from evoken.arrays import Coords, Losses
from evoken.errors import SearchError
from evoken.evaluation.chunks import Evaluation


class Search(Protocol):
    """A search on coords: ask for candidates, tell how they did.

    A search is deterministic: the same seed and the same evaluations give the same candidates, so
    a run is resumed by telling the recorded evaluations again.
    """

    wants_gram: bool  # whether ``tell`` needs ``Evaluation.gram``

    def ask(self) -> Coords:
        """Candidate x dimension: the candidates of the next generation."""

    def tell(self, evaluation: Evaluation) -> None:
        """How the candidates of the last ``ask`` did.

        Raises:
            SearchError: every candidate failed.
        """

    @property
    def center(self) -> Coords:
        """dimension: where the search stands; what a run takes as its word."""

    @property
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
