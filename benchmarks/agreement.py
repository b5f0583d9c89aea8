"""Which scores agree with the judge: the ``agreement.*`` figures.

    python -m benchmarks.agreement [--concepts 6] [--calls 4000] [--report]

Words of all qualities are scored: those on the way of a short search, mixtures of its first and its
last, the vocabulary's word that CLIP finds nearest, the words of other things, and no word at all.
The judge says in which share of a word's pictures its thing is, and in which share of pictures a
scene or a style is obeyed. How a score agrees with that is Spearman's rank correlation: within each
thing over its words, mean over things, and over all words of all things.

Words are kept in build/agreement, results in benchmarks/agreement.jsonl as they come; the same
command goes on where it was. About 15 minutes on one core. With the dependency group ``bench`` the
features of ImageNet are a score, too.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

from benchmarks import figures, learn, pool
from evoken.arrays import Images, Vectors
from evoken.pictures.drawing import images_of
from evoken.pictures.masks import found_masks
from evoken.pictures.metrics import (
    Score,
    concept_score,
    editability,
    prompt_score,
    reconstruction,
)
from evoken.pictures.scoring import STEPS, obeyed
from evoken.prompts import KINDS
from evoken.textual_inversion.initialization import nearest_word
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.recipe import build_objective
from evoken.textual_inversion.settings import preset
from evoken.words.word import Word
from stickers import world

RESULTS = Path(__file__).with_suffix(".jsonl")
WORDS = Path(__file__).parent.parent / "build" / "agreement"
ON_THE_WAY = 4  # words of a search, its first and its last among them
MIXED = (0.25, 0.5, 0.75, 1.5)  # how far from its first to its last
OTHERS = 2  # things whose words are tried
PLAIN, EDITS = 16, 4  # pictures of the plain sentence, and of each other one
SENTENCES = KINDS["object"].edits[::2]  # scenes and styles
PICTURE_SEED, HELD_OUT = 7, 128

# What each score should agree with, and what it is called.
SCORES = {
    "loss_gain": ("judge", "gain in validation loss over no word"),
    "held_out_gain": ("judge", "the same on other pictures of the thing"),
    "clip_i": ("judge", "CLIP-I"),
    "concept": ("judge", "concept score, CLIP's patches, masks found"),
    "concept_true_masks": ("judge", "concept score, CLIP's patches, true masks"),
    "concept_no_masks": ("judge", "concept score, CLIP's patches, no masks"),
    "imagenet_i": ("judge", "ImageNet features of whole pictures"),
    "imagenet_concept": ("judge", "concept score, ImageNet's patches, masks found"),
    "clip_t": ("obeyed", "CLIP-T"),
    "prompt": ("obeyed", "prompt score"),
}


def concepts(count: int) -> list[str]:
    """Held-out objects of every kind."""
    every = [o.noun for o in world.objects(held_out=True)]
    return [every[i * len(every) // count] for i in range(count)]


def search(job: tuple[str, int]) -> str:
    """Learn a word for a thing, and keep those on the way."""
    noun, calls = job
    settings = preset("default", placeholder=learn.WORD, calls=calls)
    measure, images = learn.measure, learn.concept_images(noun)
    learner = Learner(settings, measure.model, images, measure.clip)
    found = []
    while not learner.finished:
        learner.step()
        found.append(learner.vectors.clone())
    chosen = np.linspace(0, len(found) - 1, ON_THE_WAY).round().astype(int)
    WORDS.mkdir(parents=True, exist_ok=True)
    save_file({f"generation {i}": found[i] for i in chosen}, file_of(noun, calls))
    return noun


def file_of(noun: str, calls: int) -> Path:
    return WORDS / f"{learn.weights()}-{calls}-{noun.replace(' ', '-')}.safetensors"


def words_of(noun: str, nouns: Sequence[str], calls: int) -> dict[str, Vectors]:
    """The words that are scored as a thing's, by name."""
    own, measure = load_file(file_of(noun, calls)), learn.measure
    ordered = sorted(own, key=lambda name: int(name.split()[1]))
    first, last = own[ordered[0]], own[ordered[-1]]
    images, vocabulary = learn.concept_images(noun), measure.model.vocabulary()
    found = {name: own[name] for name in ordered}
    found |= {f"mixed {share:g}": first + share * (last - first) for share in MIXED}
    found["nearest word"] = nearest_word(measure.clip, images, vocabulary, "object")
    found["no word"] = measure.model.nothing()
    place = nouns.index(noun)
    for i in range(1, 1 + min(OTHERS, len(nouns) - 1)):
        other = load_file(file_of(nouns[(place + i) % len(nouns)], calls))
        name = max(other, key=lambda name: int(name.split()[1]))
        found[f"other {i}"] = other[name]
    return found


def scored(job: tuple[str, tuple[str, ...], int, str]) -> dict[str, Any]:
    """All scores of one word, and what the judge says of it."""
    noun, nouns, calls, name = job
    measure = learn.measure
    vectors = words_of(noun, nouns, calls)[name]
    word, row = Word(learn.WORD, vectors), KINDS["object"]

    def drawn(template: str, count: int) -> Images:
        prompt = template.format(learn.WORD)
        return images_of(measure.model, prompt, word, count, PICTURE_SEED, STEPS)

    plain = drawn(row.plain, PLAIN)
    edits = {template: drawn(template, EDITS) for template in SENTENCES}
    images = learn.concept_images(noun)
    validated, held_out = (
        before - after
        for before, after in zip(losses_of_nothing(noun), losses(noun, vectors), strict=True)
    )
    found, true = found_masks(images), learn.concept_masks(noun)
    behind = {template: found_masks(its) for template, its in edits.items()}
    hits = [
        hit
        for template, its in edits.items()
        for question in ("background", "style")
        for hit in obeyed(measure.judge, template, its, question)
    ]
    clip, other = measure.clip, measure.imagenet
    scores = {
        "loss_gain": validated,
        "held_out_gain": held_out,
        "clip_i": reconstruction(clip, plain, images).value,
        "concept": concept_score(clip, plain, images, found).value,
        "concept_true_masks": concept_score(clip, plain, images, true).value,
        "concept_no_masks": concept_score(clip, plain, images, None).value,
        "clip_t": editability(clip, edits).value,
        "prompt": prompt_score(clip, edits, behind).value,
    }
    if other:
        cosines = other.image_features(plain) @ other.image_features(images).T
        scores["imagenet_i"] = float(cosines.mean())
        scores["imagenet_concept"] = concept_score(other, plain, images, found).value
    return {
        "weights": learn.weights(),
        "calls": calls,
        "noun": noun,
        "word": name,
        "judge": measure.judge.share(plain, noun),
        "obeyed": statistics.mean(hits),
        **{score: round(value, 5) for score, value in scores.items()},
    }


def losses(noun: str, vectors: Vectors) -> tuple[float, float]:
    """The validation loss that a run would have, and that on other pictures of the thing."""
    measure, images = learn.measure, learn.concept_images(noun)
    settings = preset("default", placeholder=learn.WORD)
    validated = build_objective(settings, measure.model, images, measure.clip).validate(vectors)
    fresh = learn.concept_images(noun, 12, seed=77)
    return validated, learn.held_out_loss(measure.model, fresh, vectors, draws=HELD_OUT)


@cache
def losses_of_nothing(noun: str) -> tuple[float, float]:
    """The same with no word at all."""
    return losses(noun, learn.measure.model.nothing())


def agreement(
    rows: Sequence[Mapping[str, Any]], score: str, target: str
) -> tuple[Score | None, float | None]:
    """Spearman's correlation of a score and what the judge says: the mean over things of that
    within a thing, without those of whose words the judge says all the same, and that over all.
    """
    by_noun: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_noun.setdefault(row["noun"], []).append(row)
    within = [_correlation(its, score, target) for its in by_noun.values()]
    known = [value for value in within if value is not None]
    return Score.of_cosines(known) if known else None, _correlation(rows, score, target)


def _correlation(rows: Sequence[Mapping[str, Any]], score: str, target: str) -> float | None:
    """None where there is nothing to agree with; 0 for a score that is always the same."""
    values, truths = ([row[key] for row in rows] for key in (score, target))
    if len({*truths}) < 2:
        return None
    return float(spearmanr(values, truths).statistic) if len({*values}) > 1 else 0.0


def agreements(
    rows: Sequence[Mapping[str, Any]], targets: Mapping[str, str], prefix: str
) -> dict[str, Any]:
    """Figures of the scores that all rows have, by what each should agree with."""
    found: dict[str, Any] = {f"{prefix}.words": len(rows)}
    for score, target in targets.items():
        if not all(score in row for row in rows):
            continue
        within, overall = agreement(rows, score, target)
        if within is None or overall is None:
            continue
        its = (within.value, within.low, within.high, within.n)
        found[f"{prefix}.{score}.within"] = figures.interval(*its, digits=3)
        found[f"{prefix}.{score}.overall"] = round(overall, 3)
    return found


def report(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures; prints them as a table."""
    targets = {score: target for score, (target, _) in SCORES.items()}
    found = agreements(rows, targets, "agreement")
    found["agreement.things"] = len({row["noun"] for row in rows})
    print(f"{'score':52} {'judge':7} {'within a thing':>22} {'over all':>9}")
    for score, (target, label) in SCORES.items():
        if within := found.get(f"agreement.{score}.within"):
            shown = f"{within['median']:.3f} [{within['low']:.3f}, {within['high']:.3f}]"
            overall = found[f"agreement.{score}.overall"]
            print(f"{label:52} {target:7} {shown:>22} {overall:9.3f}")
    return found


def done(calls: int) -> dict[tuple[str, str], dict[str, Any]]:
    """The results on these weights after searches of so many calls, by thing and word."""
    rows = figures.results(RESULTS)
    its = [r for r in rows if (r["weights"], r["calls"]) == (learn.weights(), calls)]
    return {(row["noun"], row["word"]): row for row in its}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=int, default=6)
    parser.add_argument("--calls", type=int, default=4_000, help="of a search")
    parser.add_argument("--processes", type=int, default=1, help="one thread in each")
    parser.add_argument("--report", action="store_true", help="of what there is")
    options = parser.parse_args()
    nouns = concepts(options.concepts)
    if not options.report:
        work(nouns, options.calls, options.processes)
    rows = [row for (noun, _), row in done(options.calls).items() if noun in nouns]
    figures.update(report(rows))
    return 0


def work(nouns: Sequence[str], calls: int, processes: int) -> None:
    """Learn the words that are missing, and score those that have no scores yet."""
    about = (processes, learn.prepare, "float32", PLAIN)
    missing = [(noun, calls) for noun in nouns if not file_of(noun, calls).exists()]
    if missing:
        for noun, count, left in pool.measured(search, missing, *about):
            print(f"learned {noun} ({count} of {len(missing)}, {left:.0f} min left)", flush=True)
    torch.set_num_threads(1)
    learn.prepare("float32", PLAIN)
    known = done(calls)
    jobs = [
        (noun, tuple(nouns), calls, name)
        for noun in nouns
        for name in words_of(noun, nouns, calls)
        if (noun, name) not in known
    ]
    if not jobs:
        return
    for row, count, left in pool.measured(scored, jobs, *about):
        figures.append(RESULTS, [row])
        print(
            f"{row['noun']:16} {row['word']:14} judge {row['judge']:.2f}  obeyed "
            f"{row['obeyed']:.2f}  ({count} of {len(jobs)}, {left:.0f} min left)",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
