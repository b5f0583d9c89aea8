"""What is measured: sets of methods on the same concepts and seeds, and where their figures go."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from benchmarks.evidence.ablations import ABLATIONS, STYLES
from benchmarks.evidence.methods import METHODS, Row
from stickers import styles, world

ALL: Mapping[str, Row] = METHODS | ABLATIONS | STYLES
TUNING = 4  # concepts
REPORTED = 10
MODELS = ("stickers", "stickers-flow")

T = TypeVar("T")


class Table(NamedTuple):
    """One of them.

    Attributes:
        prefix: of its figures.
        methods: all by default.
        concepts, seeds: how many by default.
    """

    prefix: str
    methods: Sequence[str]
    concepts: int
    seeds: int

    def nouns(self, count: int) -> list[str]:
        """So many of the concepts to report on."""
        if self.prefix == "evidence.styles":
            return list(styles.HELD_OUT[:count])
        if self.prefix == "evidence.ablations":  # where there are rows to compare with
            return spread(concepts(False, REPORTED), count)
        return concepts(False, count)


TABLES: dict[tuple[str, str], Table] = {
    ("stickers", "methods"): Table("evidence", tuple(METHODS), REPORTED, 3),
    ("stickers-flow", "methods"): Table(
        "evidence.flow",
        (
            *("no word", "evoken", "gradients, averaged", "gradients, our objective"),
            *("DTI", "GFTI, official", "ZOODiP", "sep-CMA-ES", "random"),
        ),
        5,
        2,
    ),
    ("stickers", "ablations"): Table(
        "evidence.ablations",
        ("no word", "evoken", "gradients, averaged", "GFTI, paper", *ABLATIONS),
        4,
        1,
    ),
    ("stickers", "styles"): Table(
        "evidence.styles",
        (
            *("no word", "evoken", "gradients, averaged", "gradients, our objective", "DTI"),
            *("evoken, no captions", "gradients, no captions", "GFTI, paper"),
            *("evoken, 1 word", "evoken, 2 words", "gradients, 1 word", "gradients, 2 words"),
        ),
        3,
        2,
    ),
}


def concepts(tuning: bool, count: int) -> list[str]:
    """Every third held-out object is to tune on, the others to report; some of them, of every
    kind.
    """
    every = [o.noun for o in world.objects(held_out=True)]
    its = every[::3] if tuning else [noun for i, noun in enumerate(every) if i % 3]
    return spread(its, count)


def spread(every: Sequence[T], count: int) -> list[T]:
    """Some of them, at equal distances."""
    return [every[i * len(every) // count] for i in range(count)]
