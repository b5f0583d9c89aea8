"""Where the chunks of an evaluation are computed: here, or on workers that may die and join.

Results are the same bits whoever computes them: a chunk is a function of its vectors and of
settings, chunks are added up in their order, and no kernel's rounding depends on the number of
cores (``evoken.models.batches``).
"""

import traceback
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.context import SpawnProcess
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from evoken.arrays import Vectors
from evoken.checks import at_least
from evoken.errors import EvokenError, SettingError, WorkerError
from evoken.textual_inversion.chunks import Chunk, Evaluation, Objective, total

TRIES = 3  # workers that a chunk may kill, or that may die at the start, before the run ends

Build = Callable[[str], Objective]  # of a device; travels to the workers once


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
        return total(self._objective.part(vectors, chunk) for chunk in chunks)

    workers = 1

    @property
    def threads(self) -> int:
        """What torch may use here."""
        return torch.get_num_threads()

    def close(self) -> None:
        """There is nothing to end."""


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
        failed = WorkerError("a worker without errors", f"{type(error).__name__}: {error}",
                             "Leave --workers and --ray away to see more of it.")  # fmt: skip
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
            raise _hopeless("none", Died("the pool was closed"))
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
                            raise _hopeless(f"{TRIES} that died on the same chunk", answer)
                    self._mourn(worker, answer, started=index is not None)
                    continue
                if isinstance(answer, EvokenError):
                    raise answer
                self._idle.append(worker)
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
                raise _hopeless("none left, and no place for another", how)
        elif not self._workers:
            raise _hopeless(f"{TRIES} that died while they started", how)


def _hopeless(got: str, last: Died) -> WorkerError:
    return WorkerError("workers that stay alive", f"{got} (the last: {last.reason})",
                       "Use fewer workers or a smaller --batch: memory may be short.")  # fmt: skip


@dataclass(eq=False)
class _Process:
    process: SpawnProcess
    connection: Any  # a duplex end; its type differs between systems
    device: str


class Processes(Pool[_Process]):
    """Processes on this machine. They share its cores; each has a model of its own.

    A program that uses it needs the ``if __name__ == "__main__":`` that spawned processes need.
    """

    def __init__(self, build: Build, count: int, device: str = "cpu") -> None:
        """
        Args:
            build: makes the objective, in every worker once.
            count: number of workers.
            device: of their models; for "cuda" every worker has a GPU of its own.

        Raises:
            SettingError: no workers, or more than there are GPUs.
        """
        at_least("workers", count, 1)
        if device == "cuda" and count > torch.cuda.device_count():
            raise SettingError(f"at most {torch.cuda.device_count()} workers, one for each GPU",
                               str(count), "Change --workers or --device.")  # fmt: skip
        super().__init__()
        self._build, self.threads = build, max(1, torch.get_num_threads() // count)
        for i in range(count):
            self.add_worker(f"cuda:{i}" if device == "cuda" else device)

    def add_worker(self, device: str = "cpu") -> None:
        """Start one more worker; it takes part as soon as it has loaded its model."""
        here, there = get_context("spawn").Pipe()
        process = get_context("spawn").Process(
            target=_work, args=(there, self.threads), daemon=True
        )
        # Ctrl-C goes to every process of a terminal; only the driver shall hear it. Its mask is
        # inherited, but starting multiprocessing's own tracker would lift it.
        resource_tracker.ensure_running()
        before = pthread_sigmask(SIG_BLOCK, {SIGINT})
        try:
            process.start()
        finally:
            pthread_sigmask(SIG_SETMASK, before)
        there.close()  # or its death would not close the connection
        self._workers.append(_Process(process, here, device))

    def _give(self, worker: _Process, vectors: Any, chunk: Chunk) -> None:
        with suppress(OSError):
            worker.connection.send((vectors, chunk))

    def _answers(self) -> Iterator[tuple[_Process, Answer]]:
        by_connection = {w.connection: w for w in self._workers}
        for ready in connection.wait(list(by_connection)):
            worker = by_connection[ready]
            try:
                answer = worker.connection.recv()
                if answer == "here":
                    worker.connection.send((self._build, worker.device))
                    continue
            except (EOFError, OSError):
                worker.process.join()
                answer = Died(f"exit code {worker.process.exitcode}")
                worker.connection.close()
            yield worker, answer

    def _replace(self, worker: _Process) -> None:
        self.add_worker(worker.device)

    def _end(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()


def _work(driver: Any, threads: int) -> None:
    """What a worker does until its driver is gone."""
    torch.set_num_threads(threads)
    with suppress(EOFError, OSError):
        driver.send("here")
        build, device = driver.recv()
        objective = attempt(build, device)
        driver.send(objective if isinstance(objective, EvokenError) else "ready")
        while True:
            vectors, chunk = driver.recv()
            driver.send(attempt(compute, objective, vectors, chunk))


def compute(objective: Objective, vectors: NDArray[np.float32], chunk: Chunk) -> Evaluation:
    """A chunk of vectors that have travelled."""
    return objective.part(torch.from_numpy(vectors.copy()), chunk)
