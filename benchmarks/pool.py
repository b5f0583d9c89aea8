"""Long lists of measurements, on all cores."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from typing import Any, TypeVar

Job = TypeVar("Job")
Found = TypeVar("Found")


def measured(
    function: Callable[[Job], Found],
    jobs: Sequence[Job],
    processes: int,
    prepare: Callable[..., None],
    *given: Any,
) -> Iterator[tuple[Found, int, float]]:
    """What a function finds for each job, as it comes; how many are done, and the minutes left.

    Args:
        prepare: called with ``given`` once in every process, to load what its jobs share.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the workers would go on
    started = time.perf_counter()
    with get_context("spawn").Pool(processes, prepare, given) as pool:
        for done, found in enumerate(pool.imap_unordered(function, jobs), 1):
            left = (time.perf_counter() - started) / done * (len(jobs) - done) / 60
            yield found, done, left
