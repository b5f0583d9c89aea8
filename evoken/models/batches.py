"""Forward passes in batches whose size changes no bit of the result."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

# Kernels may round differently for other batch shapes; in multiples of this they were found not to.
UNIT = 16

_cores: ContextVar[int] = ContextVar("cores", default=1)  # that batches may share


def padded(rows: Tensor) -> Tensor:
    """The batch filled up to a multiple of UNIT by repeating its last row; a copy of its own, since
    views with gaps take other paths through the kernels.
    """
    return torch.cat([rows, rows[-1:].expand(-len(rows) % UNIT, *rows.shape[1:])])


def in_batches(function: Callable[..., Tensor], batch: int, *inputs: Tensor) -> Tensor:
    """``function`` of rows, at most ``batch`` at a time (rounded up to a multiple of UNIT).

    Within ``one_thread_each``, several threads call ``function`` at once, with batches that are
    together no larger than ``batch`` where UNIT allows.
    """
    cores = _cores.get() if inputs[0].device.type == "cpu" else 1
    share = max(UNIT, batch // cores // UNIT * UNIT) if cores > 1 else batch
    pieces = [x.split(share) for x in inputs]
    count = min(cores, max(1, batch // share), len(pieces[0]))
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
def one_thread_each() -> Iterator[None]:
    """Within the block, every operation has one thread; the cores share the work by batches.

    Kernels split their work by threads, and round differently for other numbers of them. So what
    has to be the same bits on any number of cores is computed here.
    """
    before = torch.get_num_threads()
    token = _cores.set(before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _cores.reset(token)
