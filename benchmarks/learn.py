"""Learning held-out objects, beside the start and beside gradients: the ``learn.*`` figures.

    python -m benchmarks.learn [--concepts 40] [--seeds 3] [--methods default,paper] [--fresh]

Results are kept in benchmarks/learn.jsonl as they come, and packed at the end, so that a long
benchmark can be interrupted and goes on where it was. Those of other weights are passed over;
``--fresh`` begins anew, as it must after a method changes.
"""

import argparse
import hashlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

from benchmarks import figures, imagenet, pool
from benchmarks.documents import table
from benchmarks.gradient import BATCH, LEARNING_RATES, SAMPLES, best_by_gradient
from benchmarks.imagenet import ImageNet
from evoken.arrays import Images, Masks, Vectors
from evoken.models.clip import Clip
from evoken.models.embedded import STICKERS
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.judge import Judge
from evoken.models.load import load_clip, load_judge, load_model
from evoken.pictures.metrics import concept_score
from evoken.pictures.scoring import drawn, scores_of
from evoken.prompts import KINDS, OBJECT_TEMPLATES
from evoken.spec import ModelSpec
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.objective import DenoisingLoss
from evoken.textual_inversion.settings import MISTAKES, PRESETS, preset
from evoken.words.word import Word
from stickers import world
from stickers.autoencoder import to_images

T = TypeVar("T")
RESULTS = Path(__file__).with_suffix(".jsonl")
WORD = "<concept>"
GROUP = 5  # concepts that gradients learn side by side
COMPARED = ("start", "default", "gradient")
# What scores say of every word, those for comparison last. The judge's: the thing is recognised,
# in the plain sentence and in others, scene and style are as asked, two things are both there, it
# is still the thing in blue.
SCORES = (
    *("judge", "elsewhere", "imagenet", "concept", "prompt", "scene", "style", "both", "blue"),
    *("diversity", "reconstruction", "editability"),
)
MEASURES = ("calls", "seconds", "loss", *SCORES, "norm")

# What the table compares: the default preset at equal budget with one choice changed, and the
# paper's at a budget that many runs can be had for, whole and with one of its mistakes put back.
SHORT_PAPER: dict[str, Any] = {"preset": "paper", "draws": 8, "sentences": 8, "calls": 12_000}
CHANGES: dict[str, dict[str, Any]] = {
    "cma": {"search": "cma", "subspace": "pca", "axes": 64},
    "sep-cma": {"search": "sep-cma"},
    "zero-order": {"search": "zero-order", "sigma": 0.05},
    "random": {"search": "random", "sigma": 0.1},
    "paper-short": SHORT_PAPER,
}
MISTAKEN: dict[str, dict[str, Any]] = {
    f"paper-short-{m}": SHORT_PAPER | {"mistakes": (m,)} for m in MISTAKES
}
FEWER: dict[str, dict[str, Any]] = {"one-image": {"images": 1}}  # to learn from
VARIANTS = CHANGES | MISTAKEN | FEWER


def concept_images(noun: str, count: int = 5, seed: int = 0) -> Images:
    return to_images(np.stack(world.concept(noun, count, seed)), torch.device("cpu"))


def concept_masks(noun: str, count: int = 5, seed: int = 0) -> Masks:
    """Where the thing is in these images."""
    masks = np.stack([mask for _, mask in world.concept_with_masks(noun, count, seed)])
    return torch.from_numpy(masks)[:, None].float() / 255


def held_out_loss(
    model: StableDiffusion,
    images: Images,
    vectors: Vectors,
    templates: Sequence[str] = OBJECT_TEMPLATES,
    draws: int = 256,
) -> float:
    """Eq. 1 of a word on draws of images that no method was given."""
    given: dict[str, Any] = {"seed": 77, "sentences": 8, "validation_draws": draws}
    return DenoisingLoss(model, images, WORD, templates, **given).validate(vectors)


class Measure:
    """Measures of a word that no method was given anything of."""

    def __init__(self, model: StableDiffusion, clip: Clip, judge: Judge, pictures: int) -> None:
        self.model, self.clip, self.judge, self.pictures = model, clip, judge, pictures
        self.imagenet = ImageNet() if imagenet.at_hand() else None

    def loss(self, noun: str, vectors: Vectors) -> float:
        """Eq. 1 on 256 draws of twelve other images of the concept."""
        return held_out_loss(self.model, concept_images(noun, 12, seed=77), vectors)

    def __call__(self, noun: str, vectors: Vectors) -> dict[str, float]:
        """The held-out loss, and all scores of the word's pictures; of the concept score also that
        of an independent network.
        """
        word = Word(WORD, vectors)
        pictures = drawn(self.model, word, "object", self.pictures, seed=5, thorough=True)
        images, masks = concept_images(noun), concept_masks(noun)
        found = scores_of(pictures, self.clip, images, "object", self.judge, noun, masks)
        row = {name: score.value for name, score in found.found().items()}
        if self.imagenet:
            plain = pictures[KINDS["object"].plain]
            row["imagenet"] = concept_score(self.imagenet, plain, images, masks).value
        norm = float(vectors.norm(dim=1).mean())
        return {"loss": self.loss(noun, vectors), "norm": norm} | row


measure: Measure  # of each process, which loads its models once


def learner_of(method: str, noun: str, seed: int, model: StableDiffusion, clip: Clip) -> Learner:
    """A learner with a preset's settings, or with the default's and a variant's change."""
    changes = {"preset": method} if method in PRESETS else {"preset": "default"} | VARIANTS[method]
    images = concept_images(noun, int(changes.pop("images", 5)))
    settings = preset(changes.pop("preset"), placeholder=WORD, seed=seed, **changes)
    return Learner(settings, model, images, clip)


def run_learner(learner: Learner) -> dict[str, float]:
    started = time.perf_counter()
    while not learner.finished:
        learner.step()
    return {"calls": learner.calls, "seconds": time.perf_counter() - started}


def gradient_rows(
    nouns: list[str], seed: int, model: StableDiffusion, clip: Clip, measure: Measure
) -> Iterator[dict[str, Any]]:
    """The baseline for each concept: the best of three learning rates by held-out loss. What was
    best for a concept on the first seed is taken on the others.
    """
    starts = [learner_of("default", n, seed, model, clip).subspace.origin for n in nouns]
    first = {n: row for (method, n, s), row in done().items() if (method, s) == ("gradient", 0)}
    rates = [(first[n]["rate"],) if n in first and seed else LEARNING_RATES for n in nouns]
    started = time.perf_counter()
    best = best_by_gradient(
        model,
        [concept_images(n) for n in nouns],
        starts,
        rates,
        seed,
        lambda i, word: measure.loss(nouns[i], word),
    )
    # The words of a group are learned side by side. Choosing the rates is in it: 2 % of the calls.
    seconds = (time.perf_counter() - started) / sum(map(len, rates))
    for noun, (word, rate) in zip(nouns, best, strict=True):
        found = {"rate": rate} | measure(noun, word)
        # A sample costs a forward and a backward pass: three forward-equivalents are customary.
        yield {"noun": noun, **found, "calls": 3 * SAMPLES, "seconds": seconds, "batch": BATCH}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(COMPARED))
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one thread in each")
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        figures.keep(RESULTS, lambda row: False)
    every = [o.noun for o in world.objects(held_out=True)]
    count = min(options.concepts, len(every))
    nouns = [every[i * len(every) // count] for i in range(count)]  # of every kind
    jobs, known = [], done()
    for seed in range(options.seeds):
        for group in groups(nouns):
            for method in filter(None, options.methods.split(",")):  # "" reports what there is
                missing = [n for n in group if (method, n, seed) not in known]
                # Gradients learn a group side by side; everything else, one word at a time.
                together = [missing] if method == "gradient" else [[n] for n in missing]
                jobs += [(method, part, seed) for part in together if part]
    about = (options.processes, prepare, options.precision, options.pictures)
    for rows, count, left in pool.measured(run_job, jobs, *about):
        figures.append(RESULTS, rows)
        for row in rows:
            print(
                f"{row['method']:12} seed {row['seed']}  {row['noun']:18} "
                f"loss {row['loss']:.4f}  judge {row['judge']:.2f}  {row['seconds']:.0f} s  "
                f"({count} of {len(jobs)} jobs, {left:.0f} min left)",
                flush=True,
            )
    report(nouns, options.seeds)
    figures.pack(RESULTS)


def groups(concepts: list[T]) -> list[list[T]]:
    """Concepts that gradients learn side by side."""
    return [concepts[i : i + GROUP] for i in range(0, len(concepts), GROUP)]


def prepare(precision: str, pictures: int) -> None:
    """What every process loads once. One thread each: small networks gain little from more."""
    global measure
    torch.set_num_threads(1)
    model = cast(StableDiffusion, load_model(ModelSpec(precision=precision)))
    measure = Measure(model, load_clip(), load_judge(), pictures)


def run_job(job: tuple[str, list[str], int]) -> list[dict[str, Any]]:
    """The rows of one method on one seed for some concepts."""
    method, nouns, seed = job
    about = {"weights": weights(), "method": method, "seed": seed}
    return [about | row for row in measure_all(method, nouns, seed, measure)]


@cache
def weights() -> str:
    """Names the shipped denoiser that a result belongs to."""
    file = STICKERS / "stickers" / "unet" / "diffusion_pytorch_model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def done() -> dict[tuple[str, str, int], dict[str, Any]]:
    """The results on these weights, by method, concept and seed."""
    rows = figures.results(RESULTS)
    return {(r["method"], r["noun"], r["seed"]): r for r in rows if r["weights"] == weights()}


def measure_all(
    method: str, nouns: list[str], seed: int, measure: Measure
) -> Iterator[dict[str, Any]]:
    model, clip = measure.model, measure.clip
    if method == "gradient":
        yield from gradient_rows(nouns, seed, model, clip, measure)
        return
    for noun in nouns:
        if method == "start" and (found := done().get((method, noun, 0))):
            yield found | {"seed": seed}  # no random number is in it
        elif method == "start":
            word = learner_of("default", noun, seed, model, clip).subspace.origin
            yield {"noun": noun, "calls": 0, "seconds": 0.0} | measure(noun, word)
        else:
            learner = learner_of(method, noun, seed, model, clip)
            spent = run_learner(learner)
            yield {"noun": noun} | spent | measure(noun, learner.vectors)


def report(nouns: list[str], seeds: int) -> None:
    """Print the table and write the figures, over those concepts and seeds that have been measured
    by start, default and gradient alike.
    """
    results = done()
    pairs = [
        (noun, seed)
        for noun in nouns
        for seed in range(seeds)
        if all((method, noun, seed) in results for method in COMPARED)
    ]
    rows = {k: v for k, v in results.items() if k[1:] in pairs}
    methods = sorted({m for m, _, _ in rows})

    def values(method: str, name: str, of: str = "") -> list[float]:
        """Of a method's runs; of another's on the same concepts and seeds."""
        return [rows[of or m, n, s][name] for m, n, s in rows if m == method]

    def gains(method: str, of: str = "") -> list[float]:
        """Share of the gradient baseline's gain in held-out loss, per concept and seed."""
        found = []
        losses = [values(method, "loss", which) for which in ("start", "gradient", of or method)]
        for start, best, loss in zip(*losses, strict=True):
            if start > best:
                found.append((start - loss) / (start - best))
        return found

    found: dict[str, object] = {}
    for method in methods:
        its = [row for key, row in rows.items() if key[0] == method]
        known = [k for k in MEASURES if all(k in row for row in its)]
        row = {k: statistics.mean(values(method, k)) for k in known}
        row |= {"n": len(values(method, "loss"))}
        if gains(method):
            row["gain"] = statistics.median(gains(method))
        if method not in COMPARED:
            row["default_gain"] = statistics.median(gains(method, "default"))
            row["default_judge"] = statistics.mean(values(method, "judge", "default"))
        found |= {f"learn.{method}.{k}": round(v, 4) for k, v in row.items()}
    print("\n" + table("learn", found))
    if pairs:
        found |= {
            "learn.calls": max(values("default", "calls")),
            "learn.seconds": figures.spread(values("default", "seconds")),
            "learn.judge_share_gradient": round(statistics.mean(values("gradient", "judge")), 4),
        }
    figures.update(found)


if __name__ == "__main__":
    main()
