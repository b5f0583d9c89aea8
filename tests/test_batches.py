"""Batches and threads: what may change how fast something is computed, and no bit of it."""

from threading import Barrier, get_ident

import torch
from threadpoolctl import threadpool_info, threadpool_limits

from evoken.models.batches import in_batches, one_thread_each


class Threads(set[int]):
    """Those that a function was called in."""

    def __init__(self, count: int):
        self._all = Barrier(count, timeout=60)

    def note(self) -> None:
        """A thread's first call waits for those of the others: none computes all of it alone."""
        if get_ident() not in self:
            self.add(get_ident())
            self._all.wait()


def test_views_with_gaps_take_the_same_path_as_copies() -> None:
    rows = torch.randn(32, 5, 3)[:, :-1]
    seen: list[bool] = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.is_contiguous())
        return x

    assert torch.equal(in_batches(function, 16, rows), rows)
    assert seen == [True, True]


def test_cores_share_the_batches_one_thread_each() -> None:
    rows, threads = torch.arange(64.0), Threads(3)

    def function(x: torch.Tensor) -> torch.Tensor:
        assert len(x) == 16 and torch.get_num_threads() == 1 and not torch.is_grad_enabled()
        threads.note()
        return 2 * x

    torch.set_num_threads(3)
    try:
        with torch.no_grad(), one_thread_each():
            assert torch.equal(in_batches(function, 64, rows), 2 * rows)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    assert len(threads) == 3 and get_ident() not in threads


def test_blocks_of_one_thread_may_be_nested_and_hold_for_numpy_too() -> None:
    def blas() -> set[int]:
        return {x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"}

    def noting(x: torch.Tensor) -> torch.Tensor:
        threads.note()
        return x

    threads = Threads(3)
    torch.set_num_threads(3)
    try:
        with threadpool_limits(2, user_api="blas"):
            with one_thread_each():
                assert blas() == {1}
                with one_thread_each():
                    assert torch.get_num_threads() == 1
                    in_batches(noting, 48, torch.zeros(48))
            assert len(threads) == 3 and torch.get_num_threads() == 3
            assert blas() == {2}
    finally:
        torch.set_num_threads(1)
