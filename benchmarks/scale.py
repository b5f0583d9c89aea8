"""Workers: parallel efficiency and the driver's own time, the ``scale.*`` figures.

    python -m benchmarks.scale [--generations 4] [--seconds 0.002]

A synthetic model, whose denoiser sleeps in proportion to its items, shows what the machinery costs
on any number of cores; ``stickers`` on one worker and on two shows what two real cores give.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks import figures
from evoken.arrays import NO_WORDS, Hidden, Images, Latents, NoiseLevels, Words
from evoken.evaluation.chunks import Evaluation, Objective
from evoken.evaluation.pool import Build
from evoken.evaluation.processes import Processes
from evoken.evaluation.ray_cluster import RayWorkers
from evoken.images import load_images
from evoken.models.base import Model, Vocabulary
from evoken.models.load import load_model
from evoken.process import Process, RectifiedFlow
from evoken.search.gauss_newton import GaussNewton
from evoken.spec import ModelSpec
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.recipe import Recipe, build_objective
from evoken.textual_inversion.settings import LearnSettings, preset

WORKERS = (1, 2, 4, 8)
WARM = 2  # generations that are not measured
WIDTH = 256  # of a token embedding, as on ``stickers``


class Sleeper:
    """A model of cheap arithmetic, whose denoiser takes ``seconds`` for every item. What a
    ``Learner`` that starts at random asks of a model, and no more.
    """

    def __init__(self, seconds: float) -> None:
        self.spec, self.calls, self.seconds = ModelSpec("sleeper"), 0, seconds
        generator = torch.Generator().manual_seed(0)
        self.words = torch.randn(300, WIDTH, generator=generator)
        self.mix = torch.randn(WIDTH, 4 * 8 * 8, generator=generator) / WIDTH
        self.width = WIDTH
        self.process: Process = RectifiedFlow(1000)
        self.guidance_calls = 1

    def vocabulary(self) -> Vocabulary:
        return Vocabulary(tuple(f"word{i}" for i in range(len(self.words))), self.words, (WIDTH,))

    def has_token(self, placeholder: str) -> bool:
        return placeholder in self.vocabulary().words

    def encode(self, images: Images) -> Latents:
        return images

    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        read = next(iter(words.values()), torch.zeros(1, 1, WIDTH))
        return read.repeat_interleave(len(prompts), 0)

    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        self.calls += len(latents)
        time.sleep(self.seconds * len(latents))
        moved = torch.tanh(hidden[:, 0] @ self.mix).view_as(latents)
        return latents * t[:, None, None, None] + moved


@dataclass(frozen=True)
class Sleeping:
    """How a worker makes its objective on the synthetic model."""

    settings: LearnSettings
    seconds: float

    def __call__(self, device: str) -> Objective:
        return build_objective(self.settings, sleeper(self.seconds), latents(), None)


def sleeper(seconds: float) -> Model:
    model: Model = Sleeper(seconds)  # type: ignore[assignment]
    return model


def latents() -> Latents:
    return torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def on_ray(build: Build, count: int) -> RayWorkers:
    return RayWorkers(build, "local", count)


@contextmanager
def learning(
    build: Build,
    settings: LearnSettings,
    model: Model,
    images: Images,
    count: int,
    start: Callable[[Build, int], Processes | RayWorkers] = Processes,
) -> Iterator[Learner]:
    """A learner whose workers are all there, past its first generations."""
    with closing(start(build, count)) as workers:
        learner = Learner(settings, model, images, None, workers)
        while workers.ready < count:
            workers(learner.vectors[None], learner.objective.split_validation())
        for _ in range(WARM):
            learner.step()
        yield learner


def timed(learner: Learner) -> tuple[float, float]:
    """Seconds of a generation, and the driver's own among them."""
    wall, cpu = time.perf_counter(), time.process_time()
    learner.step()
    return time.perf_counter() - wall, time.process_time() - cpu


def synthetic(
    repeats: int, seconds: float, start: Callable[[Build, int], Processes | RayWorkers], kind: str
) -> dict[str, object]:
    """On 1 to 8 workers: 32 chunks of draws and 16 of validation in every generation.

    Args:
        start: makes the workers.
        kind: what stands before "workers" and "driver" in the figures' names.
    """
    settings = preset(
        "default",
        placeholder="<x>",
        initialization="random",
        draws=64,
        validation_draws=256,
        calls=10**7,
    )
    model = sleeper(0.0)
    found: dict[str, object] = {}
    alone: tuple[float, ...] = ()
    for count in WORKERS:
        build = Sleeping(settings, seconds)
        with learning(build, settings, model, latents(), count, start) as learner:
            wall, own = zip(*(timed(learner) for _ in range(repeats)), strict=True)
        alone = alone or wall
        shares = [statistics.median(alone) / (count * w) for w in wall]
        print(
            f"{count} {kind}workers: {statistics.median(wall):.3f} s a generation, "
            f"efficiency {statistics.median(shares):.3f}",
            flush=True,
        )
        if count > 1:
            found[f"scale.efficiency_{count}_{kind}workers"] = figures.spread(shares)
        name = f"scale.{kind}driver_milliseconds_per_generation"
        found[name] = figures.spread([1000 * o for o in own])
    return found


def search(width: int = 768, generations: int = 21) -> dict[str, object]:
    """The search alone in a whole run, at the width of Stable Diffusion 1.5 with one vector."""
    tried = GaussNewton(width, 0, 61, 0.3, generations)
    rng = np.random.default_rng(0)
    own = []
    for _ in range(generations):
        residuals = rng.standard_normal((61, 4096))
        began = time.process_time()
        tried.ask()
        tried.tell(Evaluation(np.ones(61), residuals @ residuals.T / 4096))
        own.append(1000 * (time.process_time() - began))
    return {f"scale.search_milliseconds_width_{width}": figures.spread(own)}


def real(repeats: int) -> dict[str, object]:
    """``stickers`` on one worker and on two, one thread each. They take turns, since other work on
    the machine comes and goes.
    """
    spec = ModelSpec()
    model = load_model(spec)
    images = load_images(figures.FILE.parent.parent / "examples" / "otter", model.size).images
    settings = preset("default", placeholder="<x>", initialization="random")
    recipe = Recipe(settings, spec, "", images.numpy().astype(np.float32))
    one: list[float] = []
    two: list[float] = []
    with (
        learning(recipe, settings, model, images, 1) as first,
        learning(recipe, settings, model, images, 2) as second,
    ):
        for _ in range(repeats):
            one.append(timed(first)[0])
            two.append(timed(second)[0])
    gains = [a / b for a, b in zip(one, two, strict=True)]
    return {
        "scale.stickers_seconds_1_worker": figures.spread(one),
        "scale.stickers_seconds_2_workers": figures.spread(two),
        "scale.stickers_speedup_2_workers": figures.spread(gains),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=4, help="measured in each row")
    parser.add_argument("--seconds", type=float, default=0.002, help="of the synthetic denoiser")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the machine's cores are the workers'
    for start, kind in ((Processes, ""), (on_ray, "ray_")):
        figures.update(synthetic(options.generations, options.seconds, start, kind))
    figures.update(search())
    figures.update(real(options.generations))


if __name__ == "__main__":
    main()
