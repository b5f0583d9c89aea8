"""Words with many dimensions: the ``wide.*`` figures.

    python -m benchmarks.wide [--concepts 4] [--processes 1]

Seconds and megabytes of the search alone, at the width of four vectors of 5,120 numbers. Then what
the width costs: the stickers' embedding space is placed in a wider one by a random rotation, so
that the model hears 256 of its directions, and words are learned with the calls of the plain space.
Results are kept in benchmarks/wide.jsonl as they come, and the same command goes on where it was.
"""

import argparse
import os
import statistics
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import figures, learn, pool
from benchmarks.evidence.tables import concepts
from evoken.arrays import NO_WORDS, Hidden, Vectors, Words
from evoken.evaluation.chunks import Evaluation
from evoken.models.base import Vocabulary
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.pictures.drawing import images_of
from evoken.prompts import KINDS
from evoken.search.gauss_newton import GaussNewton
from evoken.seeds import numpy_generator, torch_generator
from evoken.textual_inversion.hearing import SKETCHED
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import preset
from evoken.words.word import Word

RESULTS = Path(__file__).with_suffix(".jsonl")
DIMENSION = 20_480
PLAIN = 256
WIDTHS = (PLAIN, 1024, 4096)
UNHEARD = 0.1  # spread of the vocabulary where it is not heard, in that of where it is
PICTURES = 48

Job = tuple[int, str, int]  # width, concept, seed


class Wide:
    """A model whose words have more numbers than it hears: of a vector x it reads x @ rotation."""

    def __init__(self, model: StableDiffusion, width: int) -> None:
        self.model = model
        generator = torch_generator(0, width, "wide")
        random = torch.randn(width, model.width, generator=generator, dtype=torch.float64)
        self.rotation = torch.linalg.qr(random)[0]
        words = model.vocabulary()
        size = (len(words.words), width)
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        noise -= noise @ self.rotation @ self.rotation.T
        spread = words.vectors.double().var(0).mean().sqrt()
        vectors = words.vectors.double() @ self.rotation.T + UNHEARD * spread * noise
        self._vocabulary = Vocabulary(words.words, vectors.float(), (width,))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    @property
    def width(self) -> int:
        return len(self.rotation)

    @property
    def encoders(self) -> Mapping[str, int]:
        return {"wide": self.width}

    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    def narrow(self, vectors: Tensor) -> Vectors:
        """What the model hears of vectors."""
        return (vectors.double() @ self.rotation).float()

    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        return self.model.condition(
            prompts, {name: self.narrow(vectors) for name, vectors in words.items()}
        )


def search_alone(generations: int = 40) -> dict[str, object]:
    """Seconds of a processor and megabytes, for longer than the basis grows."""
    rng = numpy_generator(0, 0, "wide")

    def generation(search: GaussNewton) -> float:
        residuals = rng.standard_normal((61, 4096))
        gram = residuals @ residuals.T / 4096
        began = time.process_time()
        search.ask()
        search.tell(Evaluation(np.ones(61), gram))
        return time.process_time() - began

    def make() -> GaussNewton:
        search = GaussNewton(DIMENSION, 0, 61, 0.3, generations)
        search.hear(rng.standard_normal((SKETCHED, DIMENSION)))
        return search

    search = make()
    seconds = [generation(search) for _ in range(generations)]
    tracemalloc.start()
    search = make()
    for _ in range(generations):
        generation(search)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "wide.seconds_per_generation_20480": figures.spread(seconds, 3),
        "wide.megabytes_20480": round(most / 1e6),
    }


def run_job(job: Job) -> dict[str, Any]:
    """The row of one word."""
    width, noun, seed = job
    model, clip = learn.measure.model, learn.measure.clip
    wide = None if width == PLAIN else Wide(model, width)
    settings = preset("default", placeholder=learn.WORD, seed=seed)
    learner = Learner(settings, wide or model, learn.concept_images(noun), clip)
    spent = learn.run_learner(learner)
    word = wide.narrow(learner.vectors) if wide else learner.vectors
    prompt = KINDS["object"].plain.format(learn.WORD)
    pictures = images_of(model, prompt, Word(learn.WORD, word), PICTURES, seed=5)
    return {
        "weights": learn.weights(),
        **{"width": width, "noun": noun, "seed": seed},
        **spent,
        "validation": learner.best_validation,
        "loss": learn.measure.loss(noun, word),
        "judge": learn.measure.judge.share(pictures, noun),
    }


def done() -> dict[Job, dict[str, Any]]:
    """The results on these weights."""
    rows = figures.results(RESULTS)
    return {
        (row["width"], row["noun"], row["seed"]): row
        for row in rows
        if row["weights"] == learn.weights()
    }


def report(nouns: Sequence[str], seeds: int) -> None:
    """The figures, over what was measured at all widths."""
    known = done()
    pairs = [
        (noun, seed)
        for noun in nouns
        for seed in range(seeds)
        if all((width, noun, seed) in known for width in WIDTHS)
    ]
    found: dict[str, object] = {"wide.words": len(pairs)}
    for width in WIDTHS if pairs else ():
        rows = [known[width, noun, seed] for noun, seed in pairs]
        name = "plain" if width == PLAIN else str(width)
        found[f"wide.judge_share_{name}"] = round(statistics.mean(r["judge"] for r in rows), 4)
        found[f"wide.loss_{name}"] = round(statistics.mean(r["loss"] for r in rows), 4)
        found[f"wide.calls_{name}"] = max(r["calls"] for r in rows)
    figures.update(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tuning", action="store_true", help="on concepts to tune on; no figures")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one thread in each")
    options = parser.parse_args()
    nouns, known = concepts(options.tuning, options.concepts), done()
    jobs = [
        (width, noun, seed) for seed in range(options.seeds) for noun in nouns for width in WIDTHS
    ]
    missing = [job for job in jobs if job not in known]
    about = (options.processes, learn.prepare, "float32", PICTURES)
    for row, _, left in pool.measured(run_job, missing, *about):
        figures.append(RESULTS, [row])
        print(
            f"{row['width']:5} {row['noun']:16} loss {row['loss']:.4f}  judge {row['judge']:.2f}  "
            f"{row['seconds']:.0f} s  ({left:.0f} min left)",
            flush=True,
        )
    if not options.tuning:
        figures.update(search_alone())
        report(nouns, options.seeds)


if __name__ == "__main__":
    main()
