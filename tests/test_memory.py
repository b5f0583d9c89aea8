"""Batches as large as memory holds, and how much there is."""

import itertools
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evoken.errors import ModelError
from evoken.models import batches, memory
from evoken.models.batches import MOST, UNIT, in_batches
from tests.elsewhere import elsewhere


class Small:
    """A function of rows on a machine that holds so many of them; the errors are real messages."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error, self.asked = most, error, list[int]()

    def __call__(self, x: Tensor) -> Tensor:
        self.asked.append(len(x))
        if len(x) > self.most:
            raise self.error
        return x.square()


ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    MemoryError(),
    RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer"),
    RuntimeError("Exception from src/inference: std::bad_alloc"),
)


@given(
    rows=st.integers(1, 200),
    batch=st.integers(0, 150),
    most=st.integers(UNIT, 100),
    error=st.sampled_from(ERRORS),
)
def test_a_batch_that_does_not_fit_is_halved(
    rows: int, batch: int, most: int, error: Exception
) -> None:
    batches._fitting.clear()
    function, x = Small(most, error), torch.linspace(0, 1, rows)[:, None]
    assert torch.equal(in_batches(function, batch, x), x.square())
    assert all(n % UNIT == 0 for n in function.asked[:-1])
    assert (function.asked[-1] - rows) % UNIT == 0
    assert sum(n for n in function.asked if n <= most) == rows  # none for nothing
    failed = [n for n in function.asked if n > most]
    assert all(later <= earlier / 2 for earlier, later in itertools.pairwise(failed))
    if failed:  # remembered
        again = Small(most, error)
        in_batches(again, batch, x)
        assert all(n <= most for n in again.asked)


def test_a_machine_that_does_not_hold_the_least_batch_is_told() -> None:
    batches._fitting.clear()
    function = Small(UNIT - 1, MemoryError())
    said = (
        "enough memory for this model, even in batches of 16 .*Set {}, or use a smaller model or a"
    )
    with pytest.raises(ModelError, match=said.format("`runtime` to torch-int8")):
        in_batches(function, 0, torch.zeros(40, 1))
    with elsewhere() as device, pytest.raises(ModelError, match=said.format("`offload`")):
        in_batches(function, 0, torch.zeros(40, 1, device=device))


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    function = Small(0, ValueError("shapes do not fit"))
    with pytest.raises(ValueError, match="shapes"):
        in_batches(function, 64, torch.zeros(40, 3))


def test_the_batch_is_sized_by_what_a_small_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    batches._fitting.clear()
    row = 2_000_000  # bytes that each row takes for a while

    def function(x: Tensor) -> Tensor:
        return torch.ones(len(x), row // 4).sum(1, keepdim=True) + x

    x = torch.zeros(200, 1)
    monkeypatch.setattr(batches, "available", lambda device: int(4.5 * UNIT * row))
    in_batches(function, 0, x)
    assert batches._fitting.popitem()[1] == 2 * UNIT  # half of what is free
    monkeypatch.setattr(batches, "available", lambda device: 10**12)
    in_batches(function, 0, x)
    assert batches._fitting.popitem()[1] == MOST


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's tables")
def test_freed_memory_is_given_back() -> None:
    def resident() -> int:
        return memory._kilobytes(memory.PROCESS / "status", "VmRSS")

    memory.give_back(torch.device("cpu"))  # what other tests left would be filled first
    before = resident()
    tensors = [torch.ones(20_000) for _ in range(4_000)]  # 80 kB each: the heap's, not the system's
    assert resident() > before + 250e6
    kept = tensors[::40]  # what stays lies between what goes, as when weights are replaced
    del tensors
    memory.give_back(torch.device("cpu"))
    assert resident() < before + 50e6 and len(kept) == 100


def test_files_that_were_read_take_no_memory_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("memory.max", "8000\n"),
        ("memory.current", "7500\n"),
        ("memory.stat", "anon 1000\nfile 6500\nactive_file 2500\ninactive_file 3500\n"),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    assert memory.available(torch.device("cpu")) == 6500


def test_growth_of_memory_is_measured() -> None:
    cpu = torch.device("cpu")
    total, grown = memory.measured(lambda: torch.ones(25_000_000).sum(), cpu)
    assert float(total) == 25_000_000
    assert 0.9e8 < grown < 1.5e8
    assert memory.peak(cpu) > grown
    assert 0 < memory.available(cpu) < 1e15
