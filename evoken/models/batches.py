"""Forward passes in batches whose size changes no bit of the result."""

from collections.abc import Callable

import torch
from torch import Tensor

# Kernels may round differently for other batch shapes; in multiples of this they were found not to.
UNIT = 16


def padded(rows: Tensor) -> Tensor:
    """The batch filled up to a multiple of UNIT by repeating its last row."""
    missing = -len(rows) % UNIT
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows


def in_batches(function: Callable[..., Tensor], batch: int, *inputs: Tensor) -> Tensor:
    """``function`` of rows, at most ``batch`` at a time (rounded up to a multiple of UNIT)."""
    parts = []
    for i in range(0, len(inputs[0]), batch):
        rows = [x[i : i + batch] for x in inputs]
        parts.append(function(*(padded(x) for x in rows))[: len(rows[0])])
    return torch.cat(parts)
