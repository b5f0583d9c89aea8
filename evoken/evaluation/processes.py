"""Workers as processes on this machine."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.context import SpawnProcess
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask
from typing import Any

import torch

from evoken.errors import SettingError
from evoken.evaluation.chunks import Chunk
from evoken.evaluation.pool import Answer, Build, Died, Pool
from evoken.evaluation.worker import work
from evoken.models.memory import available, resident
from evoken.options import in_range


def most_here() -> int:
    """How many workers the memory suffices for, if each needs as much as this process; at least
    four, and no more than sixteen for each core.
    """
    room = available(torch.device("cpu")) // max(1, resident())
    return min(max(4, room), 16 * (os.cpu_count() or 1))


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
            SettingError: no workers, or more than the memory or the GPUs suffice for.
        """
        in_range("workers", count, 1, most_here())
        if device == "cuda" and count > torch.cuda.device_count():
            raise SettingError(
                f"`workers` must be at most {torch.cuda.device_count()}, one per GPU (got "
                f"{count}).",
                "Lower `workers`, or change `device`.",
            )
        super().__init__()
        self._build, self.threads = build, max(1, torch.get_num_threads() // count)
        for i in range(count):
            self.add_worker(f"cuda:{i}" if device == "cuda" else device)

    def add_worker(self, device: str = "cpu") -> None:
        """Start one more worker; it takes part as soon as it has loaded its model."""
        here, there = get_context("spawn").Pipe()
        process = get_context("spawn").Process(
            target=work, args=(there, self.threads, os.getpid()), daemon=True
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
