"""Forward passes in batches whose size changes no bit of the result."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from evoken.errors import ModelError, reason_of
from evoken.models.card import OWN_MEMORY
from evoken.models.memory import available, give_back, measured, out_of_memory

# Kernels may round differently for other batch shapes; in multiples of this they were found not to.
# Rows that fill no unit are a batch of their own, whose shape the task decides and no setting.
UNIT = 16
MOST = 64  # rows of a batch that is sized by memory: more made nothing faster
SHARE = 0.5  # of the free memory that such a batch may take

# Rows that memory was found to hold, by what was asked for and by the shapes of a row: what did not
# fit once is not tried again in this process.
_fitting: dict[tuple[object, ...], int] = {}

_cores: ContextVar[int] = ContextVar("cores", default=1)  # that batches may share


def cores() -> int:
    """The cores of this machine, or what OMP_NUM_THREADS says: the number of threads of runtimes
    that split their work by themselves. It is the same in a run's process and in its workers'.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else os.cpu_count() or 1


def in_batches(
    function: Callable[..., Tensor],
    batch: int,
    *inputs: Tensor,
    unit: int = UNIT,
    threads: bool = True,
) -> Tensor:
    """``function`` of rows, at most ``batch`` at a time (rounded up to a multiple of ``unit``).
    Rows that fill no unit follow in a call of their own: none is computed for nothing.

    Args:
        batch: 0 means as many as memory holds, found by measuring the first ``unit`` rows. Where
            memory runs out the batch is halved, and stays so for these rows.
        threads: within ``one_thread_each``, several threads may call ``function`` at once, each
            with its part of the batch.

    Raises:
        ModelError: memory does not hold ``unit`` rows, or all of them where they are fewer.
    """
    key = (batch, unit, *((x.shape[1:], x.dtype, x.device) for x in inputs))
    _fitting.setdefault(key, -(-batch // unit) * unit)
    count, done, parts = len(inputs[0]), 0, list[Tensor]()
    whole = count // unit * unit
    with _threads(_cores.get() if threads and inputs[0].device.type == "cpu" else 1) as shared:
        while done < count:
            end = min(done + (_fitting[key] or unit), whole) if done < whole else count
            # Contiguous: kernels round rows that lie over one another differently.
            rows = [x[done:end].contiguous() for x in inputs]
            to_measure = not _fitting[key] and whole - done > unit
            work = partial(shared, function, unit)
            found = _attempt(work, rows, key if to_measure else None)
            if isinstance(found, str):
                give_back(inputs[0].device)
                _fitting[key] = _halved(len(rows[0]), unit, found, inputs[0].device)
                continue
            parts.append(found)
            done = end
    return torch.cat(parts)


@contextmanager
def _threads(cores: int) -> Iterator[Callable[..., Tensor]]:
    """A way to call a function of rows: in parts on as many threads, each a multiple of the unit,
    which no result depends on.
    """
    if cores == 1:
        yield lambda function, _, *rows: function(*rows)
        return
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def shared(function: Callable[..., Tensor], unit: int, *rows: Tensor) -> Tensor:
            share = max(1, len(rows[0]) // unit // cores)
            pieces = [x.split(share * unit) for x in rows]
            return torch.cat(list(pool.map(_as_here(function), *pieces)))

        yield shared


def _as_here(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """For other threads: autocast and no_grad belong to the thread that set them."""
    dtype, half = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")
    grad = torch.is_grad_enabled()

    def call(*rows: Tensor) -> Tensor:
        with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype, enabled=half):
            return function(*rows)

    return call


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Within the block, every operation has one thread; the cores share the work by batches.

    Kernels split their work by threads, and round differently for other numbers of them. So what
    has to be the same bits on any number of cores is computed here, numpy's linear algebra too.
    Blocks may be nested.
    """
    before = torch.get_num_threads()
    token = _cores.set(max(before, _cores.get()))
    torch.set_num_threads(1)
    try:
        with _blas().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
        _cores.reset(token)


@cache
def _blas() -> ThreadpoolController:
    """The libraries that numpy computes with."""
    return ThreadpoolController()


def _attempt(
    function: Callable[..., Tensor], rows: list[Tensor], key: tuple[object, ...] | None
) -> Tensor | str:
    """The function's value, or why memory did not suffice; the error itself would keep what the
    failed attempt had allocated. With a key, how many rows fit is measured and noted.
    """
    try:
        if key is None:
            return function(*rows)
        device = rows[0].device
        free, unit = available(device), len(rows[0])
        value, grown = measured(lambda: function(*rows), device)
        _fitting[key] = unit * fitting(grown, free, max(1, MOST // unit))
        return value
    except Exception as error:
        if not out_of_memory(error):
            raise
        return reason_of(error)


def fitting(grown: int, free: int, most: int = MOST // UNIT) -> int:
    """How many units of rows a batch takes where one unit took ``grown`` of ``free`` bytes."""
    return min(max(1, int(SHARE * free / max(grown, 1))), most)


def _halved(rows: int, unit: int, reason: str, device: torch.device) -> int:
    if rows <= unit:
        # On a card, weights are float16 before they are int8.
        way = "`runtime` to torch-int8" if device.type in OWN_MEMORY else "`offload`"
        raise ModelError(
            f"there is not enough memory for this model, even in batches of {rows} ({reason}).",
            f"Set {way}, or use a smaller model or a quantised copy.",
        )
    return rows // 2 // unit * unit
