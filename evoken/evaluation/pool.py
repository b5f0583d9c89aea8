"""Chunks shared out to workers that may die and join, wherever these are."""

import traceback
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from evoken.arrays import Vectors
from evoken.errors import EvokenError, WorkerError, one_line
from evoken.evaluation.chunks import Chunk, Evaluation, Objective, total

TRIES = 3  # workers that a chunk may kill, or that may die at the start, before the run ends

Build = Callable[[str], Objective]  # of a device; travels to the workers once


@dataclass(frozen=True)
class Died:
    """A worker is no more."""

    reason: str


Answer = Evaluation | EvokenError | Died | Literal["ready"]
Worker = TypeVar("Worker")


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result, or its error as a value that can travel to the driver."""
    try:
        return function(*arguments)
    except EvokenError as error:
        return error
    except Exception as error:
        failed = WorkerError(
            f"a worker failed with {one_line(f'{type(error).__name__}: {error}')}.",
            "Leave out `workers` and `ray` to see more of it.",
        )
        failed.add_note(traceback.format_exc())
        return failed


class Pool(ABC, Generic[Worker]):
    """Chunks are computed by workers; each has one chunk at a time.

    The chunk of a worker that dies goes to another, and a new worker starts in its place. Workers
    may join at any time. An error that an objective raises is raised here and not tried again.
    """

    def __init__(self) -> None:
        self._workers: list[Worker] = []  # all that live, also those that are still starting
        self._idle: list[Worker] = []
        self._failed_starts = 0
        self._closed = False

    threads: int  # see ``Evaluator``

    @abstractmethod
    def _give(self, worker: Worker, vectors: Any, chunk: Chunk) -> None:
        """Send a chunk to an idle worker; if it is dead, ``_answers`` will tell."""

    @abstractmethod
    def _answers(self) -> Iterator[tuple[Worker, Answer]]:
        """Wait until something is heard from any worker."""

    @abstractmethod
    def _replace(self, worker: Worker) -> None:
        """Start a worker where this one died."""

    @abstractmethod
    def _end(self) -> None:
        """End all workers, whatever they are doing."""

    def close(self) -> None:
        """End all workers; the pool cannot be used any more."""
        if not self._closed:
            self._closed = True
            self._end()

    def _join(self) -> None:
        """Start workers where places have become free; called before every evaluation."""

    def _pack(self, vectors: Vectors) -> Any:
        """The vectors as they travel, once for all chunks."""
        return vectors.numpy()

    @property
    def workers(self) -> int:
        """All that live, also those that are still starting."""
        return len(self._workers)

    @property
    def ready(self) -> int:
        """Workers that have loaded their model and have nothing to do."""
        return len(self._idle)

    def __call__(self, vectors: Vectors, chunks: Sequence[Chunk]) -> Evaluation:
        try:
            return self._evaluate(vectors, chunks)
        except BaseException:
            self.close()
            raise

    def _evaluate(self, vectors: Vectors, chunks: Sequence[Chunk]) -> Evaluation:
        if self._closed:
            raise WorkerError("these workers are closed.", "Start new ones.")
        self._join()
        packed, waiting = self._pack(vectors), deque(range(len(chunks)))
        running: dict[Worker, int] = {}
        killed: Counter[int] = Counter()
        parts: dict[int, Evaluation] = {}
        while len(parts) < len(chunks):
            while waiting and self._idle:
                worker = self._idle.pop()
                running[worker] = waiting.popleft()
                self._give(worker, packed, chunks[running[worker]])
            for worker, answer in self._answers():
                index = running.pop(worker, None)
                if isinstance(answer, Died):
                    if index is not None:
                        waiting.appendleft(index)
                        killed[index] += 1
                        if killed[index] >= TRIES:
                            raise _hopeless(f"{TRIES} died on the same chunk", answer)
                    self._mourn(worker, answer, started=index is not None)
                    continue
                if isinstance(answer, EvokenError):
                    raise answer
                self._idle.append(worker)
                if index is None:  # one has started
                    self._failed_starts = 0
                if index is not None and isinstance(answer, Evaluation):
                    parts[index] = answer
        return total(parts[i] for i in range(len(chunks)))

    def _mourn(self, worker: Worker, how: Died, started: bool) -> None:
        self._workers.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
            started = True
        self._failed_starts += not started
        if self._failed_starts < TRIES:
            self._replace(worker)
            if not self._workers:
                raise _hopeless("none is left, and there is no place for another", how)
        elif not self._workers:
            raise _hopeless(f"{TRIES} died while they started", how)


def _hopeless(what: str, last: Died) -> WorkerError:
    return WorkerError(
        f"the workers keep dying: {what} (the last one: {last.reason}).",
        "Use fewer `workers` or a smaller `batch`: memory may be short.",
    )


def compute(objective: Objective, vectors: NDArray[np.float32], chunk: Chunk) -> Evaluation:
    """A chunk of vectors that have travelled."""
    return objective.part(torch.from_numpy(vectors.copy()), chunk)
