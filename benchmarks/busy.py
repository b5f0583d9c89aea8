"""Drawing on a machine that does other work as well: the ``busy.*`` figures.

    python -m benchmarks.busy [--repeats 3]

Libraries let threads that wait for others keep a core busy, so that they go on at once. Where
other work wants that core, the threads waited for get no turn. Pictures are drawn on an idle
machine, beside a program that keeps one core busy, and beside a second drawing like it: as the
libraries wait, as evoken does, and with OpenMP's passive waiting, which torch alone has. Ways
alternate, each in a process of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from benchmarks import figures

WAYS = {"torch": ("evoken", "passive"), "onnx": ("evoken",)}  # beside the library's own
DRAWINGS = 3  # in one process, of which the median counts
BESIDE = "nothing", "one_core", "drawing"
COUNT, STEPS = 8, 10
FOREVER = 10**6  # drawings of the neighbour, which is ended


def draw(runtime: str, waiting: str, repeats: int) -> None:
    """Draw, and print how long each drawing after the first took."""
    from evoken.cli.door import wait_briefly

    if waiting == "passive":
        os.environ["OMP_WAIT_POLICY"] = "passive"
    if waiting == "evoken":
        wait_briefly()
    from evoken.models.load import load_model  # and with it torch, which reads what was set
    from evoken.models.runtimes import onnx_runtime
    from evoken.spec import ModelSpec

    if waiting == "library":
        onnx_runtime.SPINS = "1"
    model = load_model(ModelSpec("stickers", runtime=runtime))
    hidden = model.condition(["a photo of a cat"]).repeat(COUNT, 1, 1)
    for i in range(repeats + 1):
        began = time.perf_counter()
        model.generate(hidden, range(COUNT), STEPS, 4.0)
        if i:
            print(time.perf_counter() - began, flush=True)


def started(runtime: str, waiting: str, repeats: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.busy", "--draw", runtime, waiting]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    return subprocess.Popen(
        [*command, "--repeats", str(repeats)], env=environment, stdout=subprocess.PIPE, text=True
    )


@contextmanager
def neighbour(beside: str, runtime: str, waiting: str) -> Iterator[None]:
    """Other work on the machine, until the block ends."""
    if beside == "nothing":
        yield
        return
    if beside == "one_core":
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"], text=True)
    else:
        other = started(runtime, waiting, FOREVER)
        assert other.stdout is not None
        other.stdout.readline()  # until it draws
    try:
        yield
    finally:
        other.kill()
        other.communicate()


def seconds(beside: str, runtime: str, waiting: str) -> float:
    """The median of some drawings in a process of their own."""
    with neighbour(beside, runtime, waiting):
        drawing = started(runtime, waiting, DRAWINGS)
        said, _ = drawing.communicate()
    assert drawing.returncode == 0
    return statistics.median(map(float, said.split()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--draw", nargs=2, metavar=("RUNTIME", "WAITING"), help="draw here")
    options = parser.parse_args()
    if options.draw:
        runtime, waiting = options.draw
        draw(runtime, waiting, options.repeats)
        return
    ratios: dict[str, list[float]] = {}
    for beside, (runtime, ways), _ in product(BESIDE, WAYS.items(), range(options.repeats)):
        library = seconds(beside, runtime, "library")
        print(f"{beside:9} {runtime:6} library {library:6.2f} s", end="", flush=True)
        for way in ways:
            took = seconds(beside, runtime, way)
            print(f", {way} {took:6.2f} s", end="", flush=True)
            ratios.setdefault(f"{runtime}.{way}.{beside}", []).append(took / library)
        print()
    figures.update(
        {f"busy.seconds_vs_library.{name}": figures.spread(of, 2) for name, of in ratios.items()}
    )


if __name__ == "__main__":
    main()
