"""A cheap objective for workers, and one with troubles. What it imports, every worker does."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evoken.arrays import Losses, Vectors
from evoken.errors import SearchError
from evoken.evaluation.chunks import Chunk, Evaluation, Objective


class Sums(Objective):
    """Chunk i of a population is worth i / 7 of its sums: cheap, and inexact in floating point."""

    def split(self, candidates: int, generation: int, gram: bool = False) -> list[Chunk]:
        return [Chunk(generation, "draws", i, i + 1) for i in range(6)]

    def split_validation(self) -> list[Chunk]:
        return self.split(1, 0)

    def calls(self, candidates: int) -> int:
        return 6

    validation_calls = 6

    def validation_losses(self, vectors: Vectors) -> Losses:
        return np.array([self.validate(vectors)])

    def part(self, vectors: Vectors, chunk: Chunk) -> Evaluation:
        return Evaluation(vectors.double().sum((1, 2)).numpy() * chunk.start / 7, calls=1)


@dataclass(frozen=True)
class Troubled(Sums):
    """The same, after something went wrong: once if there is a file to note it in, else always."""

    trouble: str
    note: Path | None = None

    def __call__(self, device: str) -> Objective:
        if self.trouble == "no start":
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def part(self, vectors: Vectors, chunk: Chunk) -> Evaluation:
        if chunk.start == 3 and not (self.note and self.note.exists()):
            if self.note:
                self.note.touch()
            if self.trouble == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble == "typed":
                raise SearchError("there is no luck.", "Try again.")
            raise ZeroDivisionError("by nothing")
        return super().part(vectors, chunk)


def sums(device: str) -> Objective:
    assert device == "cpu"
    return Sums()
