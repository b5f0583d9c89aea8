"""Evaluations that are split into chunks whose results add up.

The split depends on settings alone, so it does not matter who computes which chunk, and a chunk
that was lost is computed again.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evoken.arrays import Losses, Vectors
from evoken.models.base import Model


@dataclass(frozen=True)
class Chunk:
    """A share of an evaluation.

    Attributes:
        generation, purpose: whose random numbers it is about; "draws" or "validation".
        start, stop: its draws, or where every candidate has its own, its candidates.
        gram: whether the Gram matrix is wanted.
        model: the number of the model that it asks, where there are several.
    """

    generation: int
    purpose: str
    start: int
    stop: int
    gram: bool = False
    model: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What forward passes tell of a population; what its chunks tell adds up to the whole.

    Attributes:
        losses: candidate.
        gram: candidate x candidate inner products, mean over draws and components, of the residuals
            r_0, r_1 - r_0, r_2 - r_0, ...; ``None`` where the objective is no sum of squares or the
            search did not ask. With finite differences along k directions it holds J'J and J'r.
        calls: forward passes that it took.
    """

    losses: Losses
    gram: NDArray[np.float64] | None = None
    calls: int = 0


def total(parts: Iterable[Evaluation]) -> Evaluation:
    """The sum of a split evaluation's parts, in their order: floating-point sums depend on it."""
    first, *others = parts
    losses, gram, calls = first.losses, first.gram, first.calls
    for part in others:
        losses, calls = losses + part.losses, calls + part.calls
        gram = None if gram is None or part.gram is None else gram + part.gram
    return Evaluation(losses, gram, calls)


def ranges(count: int, size: int) -> list[tuple[int, int]]:
    """0 to ``count`` in steps of ``size``: starts and stops."""
    return [(i, min(i + size, count)) for i in range(0, count, size)]


class Objective(ABC):
    """A loss for each candidate of a population, as a sum over chunks.

    Attributes:
        setup_calls: forward passes that building it took.
        models: that its chunks ask, by their numbers.
    """

    setup_calls = 0
    models: Sequence[Model] = ()

    @abstractmethod
    def split(self, candidates: int, generation: int, gram: bool = False) -> list[Chunk]:
        """The chunks of a generation's evaluation; at least one."""

    @abstractmethod
    def split_validation(self) -> list[Chunk]:
        """The chunks of the loss of one word on fixed draws that no candidate is fitted to."""

    @abstractmethod
    def calls(self, candidates: int) -> int:
        """Forward passes that the evaluation of a generation takes."""

    @property
    @abstractmethod
    def validation_calls(self) -> int:
        """Forward passes that ``validate`` takes."""

    @abstractmethod
    def validation_losses(self, vectors: Vectors) -> Losses:
        """Of one word, vector x width: the loss of each validation draw, whose mean is that of
        ``validate`` but for rounding.
        """

    @abstractmethod
    def part(self, vectors: Vectors, chunk: Chunk) -> Evaluation:
        """A chunk's share of the losses of candidate x vector x width, and of the Gram matrix."""

    def parts(self, vectors: Vectors, chunks: Sequence[Chunk]) -> Iterator[Evaluation]:
        """The shares of several chunks, one after the other."""
        return (self.part(vectors, chunk) for chunk in chunks)

    def evaluate(self, vectors: Vectors, generation: int, gram: bool = False) -> Evaluation:
        """Losses of candidate x vector x width on the draws of a generation."""
        chunks = self.split(len(vectors), generation, gram)
        return total(self.parts(vectors, chunks))

    def validate(self, vectors: Vectors) -> float:
        """Loss of one word, vector x width, on the validation draws."""
        return float(total(self.parts(vectors[None], self.split_validation())).losses[0])
