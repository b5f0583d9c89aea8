"""The directions of the simplest claims of docs/evidence.md, with small budgets.

    python -m benchmarks.evidence.small

One concept that is to tune on, one seed, and for searches the paper's start; everything is the
same on every run. The numbers say nothing of how good a whole search is: ``python -m
benchmarks.evidence`` does.
"""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch

from benchmarks import learn
from benchmarks.evidence import words
from benchmarks.evidence.contest import Contest, Method, run
from benchmarks.evidence.gradients import averaged
from benchmarks.evidence.methods import of_evoken
from evoken.prompts import OBJECT_TEMPLATES
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.objective import DenoisingLoss
from evoken.textual_inversion.settings import preset

NOUN, SEED = "octopus", 0
CALLS, EARLY, FEW, LONG = 1_800, 700, 1_200, 6_000
DRAWS = 128  # of the held-out loss
SHORT = 0.3  # the sigma of steps as long as words: longer ones need more calls than these


class Claim(NamedTuple):
    """That one word has a lower held-out loss than another.

    Attributes:
        better, worse: of ``losses``.
        margin: by which the one must be lower; below 0, by which it may be higher.
    """

    better: str
    worse: str
    margin: float

    def __str__(self) -> str:
        return f"{self.better} is below {self.worse}"


# Margins are less than half of what was measured, so that rounding elsewhere does not matter.
CLAIMS = (
    Claim("evoken", "no word", 0.0005),
    Claim("evoken, short steps", "no word", 0.0005),
    Claim("evoken, short steps", "random search", 0.01),
    Claim("evoken, short steps", "separable CMA-ES", 0.01),
    Claim("gradients", "no word", 0.003),
    Claim("the start by loss", "no word", -0.0005),
    Claim("early, from Eq. 4", "early, from a random start", 0.0015),
)
_FROM_EQ_4: dict[str, Any] = {"initialization": "attention"}
TRIED: Mapping[str, tuple[Method, int]] = {
    "evoken": (of_evoken(**_FROM_EQ_4), LONG),
    "evoken, short steps": (of_evoken(sigma=SHORT, **_FROM_EQ_4), CALLS),
    "separable CMA-ES": (of_evoken(search="sep-cma", sigma=0.3, **_FROM_EQ_4), CALLS),
    "random search": (of_evoken(search="random", sigma=0.1, **_FROM_EQ_4), CALLS),
    "gradients": (averaged(0.3), FEW),
    "early, from Eq. 4": (of_evoken(sigma=SHORT, **_FROM_EQ_4), EARLY),
    "early, from a random start": (of_evoken(sigma=SHORT, initialization="random"), EARLY),
}


@cache
def losses() -> dict[str, float]:
    """The held-out loss of every word, by its name."""
    words.prepare("stickers")
    model, clip = words.exact(), learn.measure.clip
    images, fresh = learn.concept_images(NOUN), learn.concept_images(NOUN, 12, seed=words.FRESH)
    unseen = DenoisingLoss(
        *(model, fresh, learn.WORD, OBJECT_TEMPLATES, words.FRESH),
        sentences=8,
        validation_draws=DRAWS,
    )
    settings = preset("default", placeholder=learn.WORD, initialization="lowest", calls=CALLS)
    chosen = Learner(settings, model, images, clip)
    chosen.step()
    start = chosen.start.vectors
    found = {
        "no word": unseen.validate(model.nothing()),
        "the start by loss": unseen.validate(start),
    }
    for name, (method, calls) in TRIED.items():
        contest = Contest(model, clip, images, start, SEED, calls, lambda word: 0.0)
        run(method, contest)
        found[name] = unseen.validate(contest.word)
    return found


def holds(claim: Claim) -> bool:
    """Whether what was measured says so."""
    found = losses()
    return found[claim.worse] - found[claim.better] >= claim.margin


def main() -> int:
    torch.set_num_threads(1)
    for name, loss in sorted(losses().items(), key=lambda item: item[1]):
        print(f"{loss:.4f}  {name}")
    print()
    for claim in CLAIMS:
        print(f"{'holds' if holds(claim) else 'FAILS'}: {claim}")
    return int(not all(map(holds, CLAIMS)))


if __name__ == "__main__":
    sys.exit(main())
