"""What the sticker models can be told that they never saw: words learned by gradients.

    python -m benchmarks.unseen

Held-out objects and held-out styles, judged by the judge of the world, and drawings by other hands,
judged by ``foreign.ForeignJudge``. Results are kept in benchmarks/unseen.jsonl (objects, in that of
benchmarks.learn), and those of other weights are passed over. Needs npm and the dependency group
``bench``.
"""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import figures, foreign, learn
from benchmarks.gradient import LEARNING_RATES, best_by_gradient
from evoken.arrays import Images
from evoken.pictures.drawing import images_of
from evoken.prompts import KINDS
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import preset
from evoken.words.word import Word
from stickers import styles, world
from stickers.glyphs import Object, load_objects

RESULTS = Path(__file__).with_suffix(".jsonl")
OBJECTS, DRAWINGS = 12, 10
PICTURES = 16  # drawn with each word
JUDGE_SEED, LEARN_SEED, FRESH_SEED = 1, 0, 77  # of renders: no picture is used twice


class Concept(NamedTuple):
    """Something to learn.

    Attributes:
        name: of the result, with the hand before an object's.
        images: what the word is learned from.
        fresh: other images, for the held-out loss.
        share: of given images, those that show the concept.
    """

    name: str
    images: Images
    fresh: Images
    share: Callable[[Images], float]


def spread(count: int) -> list[Object]:
    """Some of the held-out objects, of every kind."""
    every = world.objects(held_out=True)
    return [every[i * len(every) // count] for i in range(count)]


def learned(kind: str, concepts: Sequence[Concept]) -> list[dict[str, Any]]:
    """One result per concept, all of one kind: the best of three learning rates by held-out loss,
    from the start that the default preset chooses.
    """
    model, clip, row = learn.measure.model, learn.measure.clip, KINDS[kind]
    settings = preset("default", placeholder=learn.WORD, kind=kind)
    best = best_by_gradient(
        model,
        [c.images for c in concepts],
        [Learner(settings, model, c.images, clip).subspace.origin for c in concepts],
        [LEARNING_RATES] * len(concepts),
        0,
        lambda i, word: learn.held_out_loss(model, concepts[i].fresh, word, row.templates),
        row.templates,
    )
    prompts = row.samples if kind == "style" else (row.plain,)  # a style shows on different things
    results = []
    for concept, (vectors, rate) in zip(concepts, best, strict=True):
        word, count = Word(learn.WORD, vectors), PICTURES // min(4, len(prompts))
        shares = [
            concept.share(images_of(model, p.format(learn.WORD), word, count, seed=5))
            for p in prompts
        ]
        loss = learn.held_out_loss(model, concept.fresh, vectors, row.templates)
        about = {"weights": learn.weights(), "kind": kind, "concept": concept.name}
        results.append(about | {"rate": rate, "loss": loss, "share": statistics.mean(shares)})
    return results


def style_concepts() -> list[Concept]:
    judge = learn.measure.judge
    return [
        Concept(
            name,
            learn.concept_images(name),
            learn.concept_images(name, 12, seed=FRESH_SEED),
            lambda images, name=name: judge.share(images, name, "style"),  # type: ignore[misc]
        )
        for name in styles.HELD_OUT
    ]


def chosen_drawings() -> list[tuple[str, Object]]:
    """Held-out objects, so that both the object and the hand are new; the hands take turns."""
    hands = list(foreign.HANDS)
    return [(hands[i % len(hands)], thing) for i, thing in enumerate(spread(DRAWINGS))]


def name_of(hand: str, thing: Object) -> str:
    return f"{hand} {thing.noun}"


def foreign_concept(hand: str, thing: Object, judge: foreign.ForeignJudge) -> Concept:
    return Concept(
        name_of(hand, thing),
        foreign.pictures(hand, thing, 5, LEARN_SEED),
        foreign.pictures(hand, thing, 12, FRESH_SEED),
        lambda images: judge.share(images, thing.noun),
    )


def done() -> dict[tuple[str, str], dict[str, Any]]:
    """The results on these weights, by kind and concept."""
    rows = figures.results(RESULTS)
    return {(r["kind"], r["concept"]): r for r in rows if r["weights"] == learn.weights()}


def measure_missing() -> None:
    """Learn what has no result on these weights yet."""
    learn.prepare("float32", PICTURES)
    objects = [o.noun for o in spread(OBJECTS) if ("gradient", o.noun, 0) not in learn.done()]
    for nouns in learn.groups(objects):
        figures.append(learn.RESULTS, learn.run_job(("gradient", nouns, 0)))
    figures.pack(learn.RESULTS)
    for concepts in learn.groups([c for c in style_concepts() if ("style", c.name) not in done()]):
        figures.append(RESULTS, learned("style", concepts))
    chosen = [pair for pair in chosen_drawings() if ("object", name_of(*pair)) not in done()]
    if not chosen:
        return
    judge = foreign.ForeignJudge(load_objects(), JUDGE_SEED)
    for pairs in learn.groups(chosen):
        concepts = [foreign_concept(*pair, judge) for pair in pairs]
        # What the judge says of real renders that it was not trained on: the most that can be had.
        real = [{"real": c.share(c.fresh)} for c in concepts]
        results = zip(learned("object", concepts), real, strict=True)
        figures.append(RESULTS, [result | more for result, more in results])


def found() -> dict[str, object]:
    """The figures, learning first what has no result yet."""
    measure_missing()
    objects, rows = learn.done(), done()
    drawings = [rows["object", name_of(*pair)] for pair in chosen_drawings()]
    shares = {
        "heldout_gradient_judge": [
            objects["gradient", o.noun, 0]["judge"] for o in spread(OBJECTS)
        ],
        "heldout_style_gradient_judge": [rows["style", s]["share"] for s in styles.HELD_OUT],
        "foreign_gradient_share": [row["share"] for row in drawings],
        "foreign_real_share": [row["real"] for row in drawings],
    }
    return {f"stickers.{name}": round(statistics.mean(v), 4) for name, v in shares.items()}


if __name__ == "__main__":
    figures.update(found())
