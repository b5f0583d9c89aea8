"""Every evaluator gives the same bits, whatever happens to its workers."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evoken.errors import EvokenError, SearchError, SettingError, WorkerError
from evoken.evaluation.chunks import Chunk, Evaluation, ranges, total
from evoken.evaluation.evaluator import Evaluator, Serial
from evoken.evaluation.pool import Answer, Died, Pool, compute
from evoken.evaluation.processes import Processes
from tests.sums import Sums, Troubled, sums

Start = Callable[..., Any]


@pytest.fixture(scope="module")
def ray_here() -> Iterator[Path]:
    """A small Ray, and its folder; those that tests start use it."""
    from evoken.evaluation.ray_cluster import _connect, _folder_of_ray, _load_ray

    ray, (folder, lock) = _load_ray(), _folder_of_ray()
    _connect(ray, "local", 4, folder)
    yield Path(folder)
    ray.shutdown()
    shutil.rmtree(folder)
    if lock is not None:
        os.close(lock)


@pytest.fixture(params=["processes", "ray"])
def start(request: pytest.FixtureRequest) -> Start:
    """How to start some workers of either kind."""
    if request.param == "processes":
        return Processes
    request.getfixturevalue("ray_here")
    from evoken.evaluation.ray_cluster import RayWorkers

    return lambda build, count: RayWorkers(build, "local", count)


POPULATION = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))


def evaluated(evaluator: Evaluator) -> Evaluation:
    return evaluator(POPULATION, Sums().split(5, 1))


def expected() -> Evaluation:
    return evaluated(Serial(Sums()))


def equal(a: Evaluation, b: Evaluation) -> bool:
    return a.calls == b.calls and np.array_equal(a.losses, b.losses)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), st.integers(1, 8))
def test_ranges_cover_everything_once_and_totals_add_up(values: list[float], size: int) -> None:
    shares = ranges(len(values), size)
    assert [i for a, b in shares for i in range(a, b)] == list(range(len(values)))
    gram = np.ones((1, 1))
    parts = [Evaluation(np.array([sum(values[a:b])]), gram, b - a) for a, b in shares]
    found = total(parts)
    assert found.calls == len(values)
    assert found.losses[0] == pytest.approx(sum(values), abs=1e-3)
    assert found.gram is not None and found.gram[0, 0] == len(shares)


def test_workers_give_the_bits_of_the_serial_path(start: Start) -> None:
    with closing(start(sums, 2)) as workers:
        for _ in range(2):
            assert equal(evaluated(workers), expected())


def test_a_killed_workers_chunk_is_computed_elsewhere(start: Start, tmp_path: Path) -> None:
    with closing(start(Troubled("killed", tmp_path / "note"), 2)) as workers:
        assert equal(evaluated(workers), expected())
        assert (tmp_path / "note").exists()
        while workers.ready < 2:
            assert equal(evaluated(workers), expected())


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        ("typed", SearchError, "luck"),
        ("untyped", WorkerError, "ZeroDivisionError: by nothing"),
        ("killed", WorkerError, "3 died on the same chunk"),
        ("no start", WorkerError, "3 died while they started"),
    ],
)
def test_errors_come_back_and_end_all_workers(
    start: Start, tmp_path: Path, trouble: str, kind: type[EvokenError], words: str
) -> None:
    workers = start(Troubled(trouble), 1)
    with pytest.raises(kind, match=words):
        evaluated(workers)
    assert not active_children()
    with pytest.raises(WorkerError, match="closed"):
        evaluated(workers)


class OneDies(Pool):
    """A worker that computes, and one that dies at every start, as where memory is short."""

    threads = 1

    def __init__(self) -> None:
        super().__init__()
        self._workers = ["computes", "dies"]
        self._coming: list[tuple[str, Answer]] = [("computes", "ready"), ("dies", Died("killed"))]
        self.starts = 1  # of the one that dies

    def _give(self, worker: str, vectors: Any, chunk: Chunk) -> None:
        self._coming.append((worker, compute(Sums(), vectors, chunk)))

    def _answers(self) -> Iterator[tuple[str, Answer]]:
        yield self._coming.pop(0)

    def _replace(self, worker: str) -> None:
        self.starts += 1
        self._workers.append(worker)
        self._coming.append((worker, Died("killed")))

    def _end(self) -> None:
        pass


def test_a_worker_that_can_never_start_is_given_up() -> None:
    with closing(OneDies()) as workers:
        for _ in range(3):
            assert equal(evaluated(workers), expected())
        assert workers.starts == 3 and workers.workers == 1


def test_a_process_killed_from_outside_is_replaced() -> None:
    with closing(Processes(sums, 2)) as workers:
        evaluated(workers)
        victim = active_children()[0]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        victim.join(30)
        assert equal(evaluated(workers), expected())
        assert victim not in active_children()
    assert not active_children()


def test_a_worker_joins_a_running_search() -> None:
    with closing(Processes(sums, 1)) as workers:
        evaluated(workers)
        workers.add_worker()
        while workers.ready < 2:
            assert equal(evaluated(workers), expected())
        assert len(active_children()) == 2


@pytest.mark.parametrize("count", [0, -1])
def test_no_workers_are_refused(start: Start, count: int) -> None:
    with pytest.raises(SettingError, match=r"at least 1|from 1 to"):
        start(sums, count)


def test_more_workers_than_gpus_are_refused() -> None:
    with pytest.raises(
        SettingError, match=f"`workers` must be at most {torch.cuda.device_count()},"
    ):
        Processes(sums, torch.cuda.device_count() + 1, "cuda")


def test_more_actors_than_the_cluster_has_room_for_are_refused(ray_here: Path) -> None:
    from evoken.evaluation.ray_cluster import RayWorkers

    for options in ({"count": 1000}, {"device": "cuda"}):
        with pytest.raises(SettingError, match=r"at most|from 1 to"):
            RayWorkers(sums, "local", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["localhost:1", "nowhere", "localhost:x", ""])
def test_a_wrong_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from evoken.evaluation.ray_cluster import RayWorkers

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(WorkerError, match="`ray` must be 'local'"):
        RayWorkers(sums, address)
