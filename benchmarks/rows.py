"""Rows that the model computes in a call for one picture: the ``flowopt.rows_per_call_*`` figures.

    python -m benchmarks.rows

A picture is drawn, inverted and edited on the sticker models, and the rows of every call of the
denoiser are counted. Beside them stands what filling every call up to sixteen rows would take.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks import figures
from evoken.flowopt.job import edit_into, invert_into
from evoken.models.batches import UNIT
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_model
from evoken.pictures.drawing import images_of
from evoken.spec import ModelSpec

PICTURE = Path(__file__).parent.parent / "examples" / "crown.png"
PROMPTS = "a photo of a crown in a room", "a photo of a crown on the beach"
REPEATS = 5


class Counter:
    """A model's denoiser, which notes how many rows it is given; ``fill`` adds rows that nobody
    asked for.
    """

    def __init__(self, model: LatentModel) -> None:
        self.rows, self.fill = list[int](), False
        self._function = model._function
        model._running = self

    def __call__(self, *inputs: Tensor) -> Tensor:
        count = len(inputs[0])
        self.rows.append(count)
        if not self.fill:
            return self._function(*inputs)
        places = torch.arange(-(-count // UNIT) * UNIT) % count
        return self._function(*(x[places] for x in inputs))[:count]


def main() -> None:
    model = load_model(ModelSpec("stickers-flow"))
    counter = Counter(model)

    def drawing() -> None:
        images_of(model, PROMPTS[0], None, 1, 0)

    def inversion() -> None:
        with TemporaryDirectory() as folder:
            invert_into(Path(folder) / "run", PICTURE, PROMPTS[0], model)

    def edit() -> None:
        with TemporaryDirectory() as folder:
            edit_into(Path(folder) / "run", PICTURE, *PROMPTS, model)

    tasks: dict[str, Callable[[], None]] = {"picture": inversion, "edit": edit, "drawing": drawing}
    found: dict[str, object] = {}
    for name, task in tasks.items():
        counter.rows.clear()
        task()
        found[f"flowopt.rows_per_call_one_{name}"] = max(counter.rows)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(REPEATS):
        for counter.fill in seconds:
            started = time.perf_counter()
            drawing()
            seconds[counter.fill].append(time.perf_counter() - started)
    ratios = [full / few for few, full in zip(seconds[False], seconds[True], strict=True)]
    found["flowopt.one_drawing_vs_sixteen_rows"] = figures.spread(ratios, 2)
    print(f"one drawing: {statistics.median(seconds[False]):.2f} s")
    figures.update(found)


if __name__ == "__main__":
    main()
