"""Whether a process that works on and on grows."""

import itertools
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.campaign.given import Given
from benchmarks.campaign.process import call

DRAWN = "a photo of a <disc>"
EVERY = 1.0  # seconds between two looks at the memory
WARM_UP = 0.3  # share of the time, in which pools and caches fill


def run_soak(given: Given, minutes: float) -> dict[str, Any]:
    """Learn and draw in one process for so many minutes; returns how fast its memory grew."""
    samples = call(_work, str(given.folder), minutes * 60)
    return {
        "minutes": minutes,
        "rounds": samples[-1][2],
        "megabytes": round(samples[-1][1], 1),
        "megabytes_per_hour": round(slope([(t, m) for t, m, _ in samples]) * 3600, 2),
    }


def slope(samples: list[tuple[float, float]]) -> float:
    """The median slope between two samples (Theil 1950), which a few odd ones do not move."""
    pairs = itertools.combinations(samples, 2)
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs)


def _work(place: str, seconds: float) -> list[tuple[float, float, int]]:
    """Seconds, megabytes and rounds, after the warm-up."""
    import torch

    from evoken.images import load_images
    from evoken.models.load import load_clip, load_model
    from evoken.models.memory import give_back, resident
    from evoken.pictures.drawing import images_of
    from evoken.quiet import quiet
    from evoken.spec import ModelSpec
    from evoken.textual_inversion.job import learn_into
    from evoken.textual_inversion.settings import preset

    folder, here = Path(place), Path(tempfile.mkdtemp())
    budget: dict[str, Any] = {"popsize": 5, "draws": 4, "validation_draws": 8, "calls": 64}
    settings = preset("default", placeholder="<disc>", preview_every=0, samples=0, **budget)
    samples: list[tuple[float, float, int]] = []
    with quiet():
        model = load_model(ModelSpec(str(folder / "model")))
        load_clip(str(folder / "clip"))
        images = load_images(folder / "photos", model.size)
        started = looked = time.monotonic()
        for i in itertools.count():
            run = learn_into(here / "run", images, settings, model, clip=str(folder / "clip"))
            images_of(model, DRAWN, run.word(), 1, i, 2)
            shutil.rmtree(here)
            now = time.monotonic()
            if now - started > WARM_UP * seconds and now - looked > EVERY:
                give_back(torch.device("cpu"))
                samples.append((now - started, resident() / 2**20, i + 1))
                looked = now
            if now - started > seconds and len(samples) > 1:
                return samples
    raise AssertionError  # it counts on
