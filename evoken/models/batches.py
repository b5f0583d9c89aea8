"""Forward passes in batches whose size changes no bit of the result."""

from collections.abc import Callable

import torch
from torch import Tensor

from evoken.errors import ModelError
from evoken.models.memory import available, measured, out_of_memory

# Kernels may round differently for other batch shapes; in multiples of this they were found not to.
UNIT = 16
MOST = 64  # rows of a batch that is sized by memory: more made nothing faster
SHARE = 0.5  # of the free memory that such a batch may take

# Rows that memory was found to hold, by what was asked for and by the shapes of a row: what did not
# fit once is not tried again in this process.
_fitting: dict[tuple[object, ...], int] = {}


def padded(rows: Tensor, unit: int = UNIT) -> Tensor:
    """The batch filled up to a multiple of ``unit`` by repeating its last row; contiguous, because
    kernels round rows that lie over one another differently.
    """
    missing = -len(rows) % unit
    filled = torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows
    return filled.contiguous()


def in_batches(
    function: Callable[..., Tensor], batch: int, *inputs: Tensor, unit: int = UNIT
) -> Tensor:
    """``function`` of rows, at most ``batch`` at a time (rounded up to a multiple of ``unit``).

    Args:
        batch: 0 means as many as memory holds, found by measuring the first ``unit`` rows. Where
            memory runs out the batch is halved, and stays so for these rows.

    Raises:
        ModelError: memory does not hold ``unit`` rows.
    """
    key = (batch, unit, *((x.shape[1:], x.dtype, x.device) for x in inputs))
    _fitting.setdefault(key, -(-batch // unit) * unit)
    count, parts = len(inputs[0]), list[Tensor]()
    done = 0
    while done < count:
        limit = _fitting[key] or unit
        rows = [padded(x[done : done + limit], unit) for x in inputs]
        to_measure = not _fitting[key] and count - done > unit
        found = _attempt(function, rows, key if to_measure else None)
        if isinstance(found, str):
            _fitting[key] = _halved(len(rows[0]), unit, found)
            continue
        parts.append(found[: count - done])
        done += limit
    return torch.cat(parts)


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
        free = available(device)
        value, grown = measured(lambda: function(*rows), device)
        unit = len(rows[0])
        units = int(SHARE * free / max(grown, 1))
        _fitting[key] = unit * min(max(1, units), max(1, MOST // unit))
        return value
    except Exception as error:
        if not out_of_memory(error):
            raise
        return str(error).strip().partition("\n")[0] or type(error).__name__


def _halved(rows: int, unit: int, reason: str) -> int:
    if rows <= unit:
        raise ModelError(f"memory for {unit} row(s) of this model at a time", f"less ({reason})",
                         "Use --runtime torch-int8, or a smaller model.")  # fmt: skip
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return rows // 2 // unit * unit
