"""Where the chunks of an evaluation are computed: what the learner asks of it, and here.

Results are the same bits whoever computes them: a chunk is a function of its vectors and of
settings, chunks are added up in their order, and no kernel's rounding depends on the number of
cores (``evoken.models.batches``).
"""

from collections.abc import Sequence
from typing import Protocol

import torch

from evoken.arrays import Vectors
from evoken.evaluation.chunks import Chunk, Evaluation, Objective, total


class Evaluator(Protocol):
    """Where chunks are computed."""

    def __call__(self, vectors: Vectors, chunks: Sequence[Chunk]) -> Evaluation:
        """The sum of the chunks of candidate x vector x width.

        Raises:
            EvokenError: what the objective raised, wherever it did.
            WorkerError: no worker can do it.
        """

    @property
    def workers(self) -> int:
        """How many chunks can be computed at a time, when all have started."""

    @property
    def threads(self) -> int:
        """Cores that each of them may use."""

    def close(self) -> None:
        """End all workers."""


class Serial:
    """Chunks are computed here, one after another."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def __call__(self, vectors: Vectors, chunks: Sequence[Chunk]) -> Evaluation:
        return total(self._objective.parts(vectors, chunks))

    workers = 1

    @property
    def threads(self) -> int:
        """What torch may use here."""
        return torch.get_num_threads()

    def close(self) -> None:
        """There is nothing to end."""
