"""What a worker process does. It ends with the process that started it, also while it imports
what it needs: therefore nothing heavy is imported here before that is watched.
"""

import os
import threading
import time
from contextlib import suppress
from typing import Any

WATCH = 0.5  # seconds


def work(driver: Any, threads: int, parent: int) -> None:
    """Compute what the driver asks for until it is gone.

    Args:
        driver: the worker's end of a duplex connection.
        threads: to compute with.
        parent: the process's number.
    """
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    import torch

    from evoken.errors import EvokenError
    from evoken.evaluation.pool import attempt, compute

    torch.set_num_threads(threads)
    with suppress(EOFError, OSError):
        driver.send("here")
        build, device = driver.recv()
        objective = attempt(build, device)
        driver.send(objective if isinstance(objective, EvokenError) else "ready")
        while True:
            vectors, chunk = driver.recv()
            driver.send(attempt(compute, objective, vectors, chunk))


def _watch(parent: int) -> None:
    """End this process as soon as it has another parent."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)
