"""Machines that join and leave a Ray cluster while a search runs, as Ray's own tests have them."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evoken.errors import WorkerError
from evoken.evaluation import ray_cluster
from evoken.evaluation.evaluator import Serial
from evoken.evaluation.ray_cluster import RayWorkers, _folder_of_ray, _load_ray
from tests.sums import Sums, sums

MACHINE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(params=[1])
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Its head has as many CPUs as the parameter says."""
    _load_ray()
    from ray.cluster_utils import Cluster

    head = MACHINE | {"include_dashboard": False, "num_cpus": request.param}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def test_a_machine_that_joins_takes_part_and_one_that_leaves_is_not_missed(cluster: Any) -> None:
    population, chunks = torch.randn(5, 2, 3), Sums().split(5, 1)
    expected = Serial(Sums())(population, chunks).losses
    with closing(RayWorkers(sums, cluster.address)) as workers:
        np.testing.assert_array_equal(workers(population, chunks).losses, expected)
        assert workers.ready == 1
        machine = cluster.add_node(**MACHINE)
        while workers.ready < 2:
            np.testing.assert_array_equal(workers(population, chunks).losses, expected)
        cluster.remove_node(machine)
        while workers.ready != 1 or len(workers._workers) != 1:
            np.testing.assert_array_equal(workers(population, chunks).losses, expected)


@pytest.mark.parametrize("cluster", [0], indirect=True)
def test_a_cluster_without_a_machine_that_could_work_is_told(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "PATIENCE", 1)
    population, chunks = torch.randn(5, 2, 3), Sums().split(5, 1)
    machine = cluster.add_node(**MACHINE)
    with closing(RayWorkers(sums, cluster.address, count=1)) as workers:
        workers(population, chunks)
        cluster.remove_node(machine)

        def go_on() -> None:
            for _ in range(1000):  # the machine is missed after some of them
                workers(population, chunks)

        with pytest.raises(WorkerError, match="the cluster has no CPU left"):
            go_on()


def test_the_folder_of_a_process_that_was_killed_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "evoken-ray-killed" / "session").mkdir(parents=True)
    first, lock = _folder_of_ray()
    second, other = _folder_of_ray()
    assert {str(p) for p in tmp_path.iterdir()} == {first, second}
    for held in (lock, other):
        assert held is not None
        os.close(held)
