"""A word of one method for one concept. Not in ``__main__``: processes that are spawned do not find
what is in that module of a package.
"""

import statistics
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from benchmarks import figures, learn
from benchmarks.evidence.contest import Contest, run
from benchmarks.evidence.methods import EQUAL_SECONDS
from benchmarks.evidence.results import Job, packed, weights
from benchmarks.evidence.tables import ALL
from evoken.arrays import Images, Vectors
from evoken.errors import EvokenError
from evoken.models.families.latent import LatentModel
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.load import load_model
from evoken.models.runtimes.requirements import imitates
from evoken.pictures.drawing import images_of
from evoken.pictures.metrics import editability, reconstruction
from evoken.prompts import KINDS
from evoken.spec import ModelSpec
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import EFFORTS, preset
from evoken.words.word import Word
from stickers import styles, world

CALLS = EFFORTS["normal"]
THOROUGH = EFFORTS["thorough"]
PICTURES = 16  # of the plain sentence
FRESH = 77  # the seed of images that no method is given

_model = "stickers"  # of each process
_precision = "float32"
_exact: LatentModel  # in float32; that of ``learn.measure`` is in bfloat16, if the processor has it


def prepare(model: str, pictures: int = PICTURES) -> None:
    """What every process loads once."""
    global _model, _precision, _exact
    learn.prepare("float32", pictures)
    _exact = learn.measure.model
    if model != _exact.spec.name:
        _exact = load_model(ModelSpec(model))
    half = ModelSpec(model, precision="bfloat16")
    chosen = _exact if imitates(half) else load_model(half)
    learn.measure.model = cast(StableDiffusion, chosen)
    _model, _precision = model, chosen.spec.precision


def exact() -> LatentModel:
    """The model of this process that gradients go through."""
    return _exact


def equal_seconds() -> int:
    """Calls that a method with gradients makes in the time that evoken takes for THOROUGH, on two
    cores; a sample is counted as three.
    """
    ratio = figures.read().get("evidence.seconds.sample_in_calls")
    if ratio is None:
        raise SystemExit(
            "how long a sample with gradients takes is not measured yet: "
            "python -m benchmarks.evidence.seconds"
        )
    return round(3 * THOROUGH / ratio["median"] / 100) * 100


def kind_of(noun: str) -> str:
    """Whether a concept is an object or a style."""
    return "style" if noun in styles.HELD_OUT else "object"


def images_for(noun: str, count: int) -> Images:
    """What a method learns from: some of the five images of a concept, or more than these."""
    five = learn.concept_images(noun)
    return five[:count] if count <= 5 else torch.cat([five, learn.concept_images(noun, 5, seed=1)])


def calls_of(method: str) -> int:
    """That a method can spend."""
    if method.endswith(EQUAL_SECONDS):
        return equal_seconds()
    return THOROUGH if ALL[method].thorough else CALLS


def measured(job: Job, whole: bool = True) -> dict[str, Any]:
    """The row of one contest.

    Args:
        whole: with its curve, its word and all scores; else with the held-out loss alone, by which
            variants are chosen.
    """
    method, variant, noun, seed = job
    contest = begun(method, noun, seed, held_out=None if whole else lambda word: 0.0)
    failed = ""
    try:
        run(ALL[method].variants[variant], contest)
    except (EvokenError, ArithmeticError, IndexError, ValueError, np.linalg.LinAlgError) as error:
        failed = f"{type(error).__name__}: {error}"[:200]  # the word so far counts
    row = {"calls": contest.calls, "seconds": round(contest.seconds, 1)}
    scores = _scores(noun, contest.word) if whole else {"loss": _loss(noun, contest.word)}
    curve = [[p.calls, round(p.seconds, 1), round(p.loss, 5)] for p in contest.curve]
    curve += [[row["calls"], row["seconds"], round(scores["loss"], 5)]]
    return {
        "weights": weights(_model),
        "precision": _precision,
        "method": method,
        "variant": variant,
        "noun": noun,
        "seed": seed,
        "failed": failed,
        **row,
        **scores,
        "curve": curve if whole else [],
        "word": packed(contest.word) if whole else "",
    }


def tried(job: Job) -> dict[str, Any]:
    """The row of a variant that is tried."""
    return measured(job, whole=False)


def begun(
    method: str,
    noun: str,
    seed: int,
    calls: int | None = None,
    held_out: Callable[[Vectors], float] | None = None,
) -> Contest:
    """The contest of a method, where it begins; by default its held-out loss is Eq. 1's.

    All is in bfloat16 where the CPU has it, scores included: half the time. What gradients go
    through is a model in float32, whose passes are cast as they are computed (``autocast``).
    """
    measure, row, kind = learn.measure, ALL[method], kind_of(noun)
    model = _exact if row.group == "gradients" else measure.model
    most = calls or calls_of(method)
    images = images_for(noun, row.images)
    about: dict[str, Any] = {"placeholder": learn.WORD, "seed": seed, "kind": kind}
    about |= {"vectors": row.vectors} if row.vectors else {}
    start = Learner(preset("default", **about), measure.model, images, measure.clip).start
    return Contest(
        *(model, measure.clip, images, start.vectors, seed),
        most,
        held_out or (lambda word: _loss(noun, word)),
        kind,
        world.concept_captions(noun, row.images) if kind == "style" and row.captions else (),
    )


def _loss(noun: str, word: Vectors) -> float:
    """Eq. 1 on images that no method is given."""
    if kind_of(noun) == "object":
        return learn.measure.loss(noun, word)
    fresh = learn.concept_images(noun, 12, seed=FRESH)
    return learn.held_out_loss(learn.measure.model, fresh, word, KINDS["style"].templates)


def _scores(noun: str, vectors: Vectors) -> dict[str, float]:
    """The held-out loss, and scores of the word's pictures; a style shows on different things, so
    the judge is asked about all of its sentences.
    """
    if kind_of(noun) == "object":
        return learn.measure(noun, vectors)
    measure, word = learn.measure, Word(learn.WORD, vectors)
    drawn = {
        t: images_of(measure.model, t.format(learn.WORD), word, measure.pictures // 2, seed=5)
        for t in KINDS["style"].samples
    }
    plain, *edits = drawn
    judge, styled, things = measure.judge, list[bool](), list[bool]()
    for template, pictures in drawn.items():
        its = [answer == noun for answer in judge.answers(pictures, "style")]
        styled += its
        thing = template.split()[1]  # "a cat in the style of"
        if thing in judge.names["object"]:
            seen = judge.answers(pictures)
            things += [style and it == thing for style, it in zip(its, seen, strict=True)]
    return {
        "loss": _loss(noun, vectors),
        "judge": statistics.mean(styled),
        "styled_thing": statistics.mean(things),
        "reconstruction": reconstruction(
            measure.clip, drawn[plain], learn.concept_images(noun)
        ).value,
        "editability": editability(measure.clip, {t: drawn[t] for t in edits}).value,
        "norm": float(vectors.norm(dim=1).mean()),
    }
