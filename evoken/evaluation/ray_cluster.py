"""Workers on a Ray cluster; the only module that knows Ray.

Plain actors and ``ray.wait``. A dead actor is replaced by a new one, as a node that joins gets
one: one way in for all, instead of Ray's restarts beside it.
"""

import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import torch

from evoken.arrays import Vectors
from evoken.errors import EvokenError, SettingError, WorkerError, reason_of, shown
from evoken.evaluation.chunks import Chunk, Evaluation
from evoken.evaluation.pool import Answer, Build, Died, Pool, attempt, compute
from evoken.evaluation.processes import most_here
from evoken.files import lock_folder, remove_abandoned
from evoken.options import at_least, in_range

PATIENCE = 30  # seconds without an answer, after which the cluster is looked at
LOOPBACK = "127.0.0.1"
OBJECT_STORE = 100_000_000  # bytes; a generation is far smaller, and Ray would take a third of all
FOLDERS = "evoken-ray-"  # how the names of the folders that Ray writes in begin


class RayWorkers(Pool[Any]):
    """Actors of Ray, each with a model of its own."""

    def __init__(
        self, build: Build, address: str, count: int | None = None, device: str = "cpu"
    ) -> None:
        """
        Args:
            build: makes the objective, in every worker once.
            address: "local" starts Ray here, "auto" finds the cluster that this machine is part of,
                or HOST:PORT of its head. A connection that is there already is used.
            count: number of workers; by default one on each GPU, or one on each machine's CPU, and
                more when machines join.
            device: of their models; for "cuda" every worker has a GPU of its own.

        Raises:
            SettingError: no workers, more than the cluster has room for, or Ray is not installed.
            WorkerError: no cluster at the address.
        """
        if count is not None:
            at_least("workers", count, 1)
            if address == "local":
                in_range("workers", count, 1, most_here())
        super().__init__()
        self._ray = _load_ray()
        self._owned, self._folder = not self._ray.is_initialized(), ""
        self._lock: int | None = None  # on the folder
        if self._owned:
            if address == "local":
                self._folder, self._lock = _folder_of_ray()
            try:
                _connect(self._ray, address, count, self._folder)
            except BaseException:
                self.close()
                raise
        gpus = device.startswith("cuda")
        self._count, self._resource = count, "GPU" if gpus else "CPU"
        self._device = "cuda" if gpus else device  # Ray shows every actor its own GPU alone
        self._actor = self._ray.remote(_Actor)
        self._places: dict[Any, Any] = {}  # of each worker: its machine, None for any
        self._answer_of: dict[Any, Any] = {}  # reference of a coming answer: its worker
        room = int(self._ray.cluster_resources().get(self._resource, 0))
        if room < (count or 1):
            self.close()
            raise SettingError(
                f"`workers` must be at most {room}, one per {self._resource} (got {count or 1}).",
                "Lower `workers`, or change `device`.",
            )
        self.threads = max(1, room // (count or len(self._ray.nodes())))
        self._build = self._ray.put(build)
        self._join()

    def _join(self) -> None:
        if self._count is not None:
            for _ in range(self._count - len(self._workers)):
                self._start(None, self.threads)
            return
        taken = list(self._places.values())
        for node in self._ray.nodes():
            have = int(node["Resources"].get(self._resource, 0)) if node["Alive"] else 0
            wanted = have if self._resource == "GPU" else min(1, have)
            for _ in range(wanted - taken.count(node["NodeID"])):
                self._start(node["NodeID"], have)

    def _start(self, node: Any, threads: int) -> None:
        """An actor on a machine; None for any."""
        strategy: Any = "SPREAD"
        if node is not None:
            affinity = import_module("ray.util.scheduling_strategies")
            strategy = affinity.NodeAffinitySchedulingStrategy(node, soft=False)
        worker = self._actor.options(
            num_cpus=1, num_gpus=int(self._resource == "GPU"), scheduling_strategy=strategy
        ).remote(self._build, self._device, threads)
        self._workers.append(worker)
        self._places[worker] = node
        self._answer_of[worker.start.remote()] = worker

    def _pack(self, vectors: Vectors) -> Any:
        return self._ray.put(vectors.numpy())

    def _give(self, worker: Any, vectors: Any, chunk: Chunk) -> None:
        self._answer_of[worker.part.remote(vectors, chunk)] = worker

    def _answers(self) -> Iterator[tuple[Any, Answer]]:
        errors = self._ray.exceptions
        ready, _ = self._ray.wait(list(self._answer_of), timeout=PATIENCE)
        if not ready and self._ray.cluster_resources().get(self._resource, 0) < 1:
            raise WorkerError(
                f"the cluster has no {self._resource} left.",
                "Add a machine, then continue with `resume`.",
            )
        for reference in ready:
            worker = self._answer_of.pop(reference)
            try:
                answer = self._ray.get(reference)
            except errors.RayTaskError as error:
                raise WorkerError(
                    f"a worker failed with {shown(error.cause, 200)}.",
                    "Install the same version of evoken on all machines.",
                ) from error
            except errors.RayError as error:
                answer = Died(reason_of(error))
                self._ray.kill(worker)  # it may only be out of reach
                del self._places[worker]
            yield worker, answer

    def _replace(self, worker: Any) -> None:
        self._join()

    def _end(self) -> None:
        """Also Ray itself, where it was started or joined for these workers, and its folder."""
        for worker in self._workers:
            self._ray.kill(worker)
        if self._owned:
            self._ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._folder:
            # What a killed driver leaves goes on writing for a while, also where its folder was.
            _remove_left()


class _Actor:
    """One device, one model."""

    def __init__(self, build: Build, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._objective = attempt(build, device)

    def start(self) -> Answer:
        """Whether it is ready."""
        return self._objective if isinstance(self._objective, EvokenError) else "ready"

    def part(self, vectors: Any, chunk: Chunk) -> Evaluation | EvokenError:
        """Compute a chunk."""
        found: Evaluation | EvokenError = attempt(compute, self._objective, vectors, chunk)
        return found


def _load_ray() -> Any:
    # Ray 2.60 warns of what later versions will do to actors without a GPU; this is what they do.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return import_module("ray")
    except ImportError as error:
        raise SettingError(
            f"`ray` needs a package that is missing: {reason_of(error)}.",
            "Install it with: pip install 'evoken[ray]'",
        ) from error


def _folder_of_ray() -> tuple[str, int | None]:
    """A new folder for Ray's logs and sockets, and the lock on it; the names of sockets may only be
    short. Those of processes that were killed go.
    """
    _remove_left()
    folder = tempfile.mkdtemp(prefix=FOLDERS, dir=_place())
    return folder, lock_folder(Path(folder))


def _place() -> Path:
    return Path(os.environ.get("RAY_TMPDIR", "/tmp"))  # noqa: S108


def _remove_left() -> None:
    """Remove the folders of this user's processes that were killed."""
    for left in _place().glob(f"{FOLDERS}*"):
        with suppress(OSError):  # it is just going
            if left.lstat().st_uid == os.getuid():
                remove_abandoned(left)


def _connect(ray: Any, address: str, count: int | None, folder: str) -> None:
    """Start Ray or join its cluster.

    Args:
        folder: for what Ray writes, if it is started here.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {
            "num_cpus": max(os.cpu_count() or 1, count or 1),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
            "_node_ip_address": LOOPBACK,
            "_temp_dir": folder,
        }
    elif address != "auto":
        _knock(address)
    try:
        with _unreachable() if address == "local" else nullcontext(), _same_signals():
            ray.init(address, **options)
    except Exception as error:  # a start that takes too long is a bare Exception
        raise _nobody(address, reason_of(error)) from error


@contextmanager
def _same_signals() -> Iterator[None]:
    """SIGTERM does after the block what it did before: Ray would end the process at once, with the
    stack of its own.
    """
    utils: Any = import_module("ray._private.utils")
    before, setter = signal.getsignal(signal.SIGTERM), utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = setter
        if before is not None and current_thread() is main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _unreachable() -> Iterator[None]:
    """Within the block, Ray starts for this user alone: it would run whatever code it is sent.

    It listens on 127.0.0.1 only, as it does by itself on Windows and macOS, and knows its processes
    by a token that is nowhere on the disk. Its dashboard is left out: even where that shows nothing
    and reports nothing, it asks the network in which cloud it runs.
    """
    constants: Any = import_module("ray._private.ray_constants")
    services: Any = import_module("ray._private.services")
    variable = constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # read once in a process
    os.environ[variable] = "0"  # for the processes that Ray starts
    before = constants.ENABLE_RAY_CLUSTER, services.start_api_server
    constants.ENABLE_RAY_CLUSTER = False
    services.start_api_server = lambda *_, **__: (None, None)
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER, services.start_api_server = before
        del os.environ[variable]


def _knock(address: str) -> None:
    """Raise unless something listens there; Ray itself would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (ValueError, OSError) as error:
        raise _nobody(address, reason_of(error)) from error


def _nobody(address: str, reason: str) -> WorkerError:
    if address == "local":
        return WorkerError(
            f"could not start Ray on this machine: {reason}.",
            "Try again, or use `workers` without `ray`.",
        )
    return WorkerError(
        f"`ray` must be 'local', 'auto', or HOST:PORT of a Ray cluster (got {shown(address)}: "
        f"{reason}).",
        "Start a cluster with: ray start --head",
    )
