"""Forward passes in batches: neither their size nor the number of cores changes a bit."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

# Kernels may round differently for other batch shapes; in multiples of this they were found not to.
UNIT = 16


def padded(rows: Tensor) -> Tensor:
    """The batch filled up to a multiple of UNIT by repeating its last row; a copy of its own, since
    views with gaps take other paths through the kernels.
    """
    return torch.cat([rows, rows[-1:].expand(-len(rows) % UNIT, *rows.shape[1:])])


def in_batches(function: Callable[..., Tensor], batch: int, *inputs: Tensor) -> Tensor:
    """``function`` of rows, at most ``batch`` at a time (rounded up to a multiple of UNIT).

    On a CPU, kernels round differently for other numbers of threads. So every batch has one thread,
    and as many batches as there are cores run side by side, together no larger than ``batch``
    where UNIT allows. ``function`` must bear being called by several threads at once.
    """
    cores = torch.get_num_threads() if inputs[0].device.type == "cpu" else 1
    share = max(UNIT, batch // cores // UNIT * UNIT) if cores > 1 else batch
    pieces = [x.split(share) for x in inputs]
    count = min(cores, max(1, batch // share), len(pieces[0]))
    with one_thread():
        if count == 1:
            return torch.cat([_call(function, *rows) for rows in zip(*pieces, strict=True)])
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return torch.cat(list(pool.map(_as_here(function), *pieces)))


def _call(function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    return function(*(padded(x) for x in rows))[: len(rows[0])]


def _as_here(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``_call`` for other threads: autocast and no_grad belong to the thread that set them."""
    dtype, half = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")
    grad = torch.is_grad_enabled()

    def call(*rows: Tensor) -> Tensor:
        with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype, enabled=half):
            return _call(function, *rows)

    return call


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, operations of this thread use one core, and so round alike everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
