"""Machines that join and leave a Ray cluster while a search runs, as Ray's own tests have them."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

from evoken.distributed import RayWorkers, _load_ray
from evoken.workers import Serial
from tests.sums import Sums, sums

MACHINE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture
def cluster() -> Iterator[Any]:
    _load_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **MACHINE})
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
