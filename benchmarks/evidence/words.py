"""A word of one method for one concept. Not in ``__main__``: processes that are spawned do not find
what is in that module of a package.
"""

from typing import Any

import numpy as np

from benchmarks import learn
from benchmarks.evidence.contest import WORD, Contest, run
from benchmarks.evidence.methods import METHODS
from evoken.errors import EvokenError
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import preset

CALLS = 12_000

Job = tuple[str, str, str, int]  # method, variant, concept, seed


def measured(job: Job) -> dict[str, Any]:
    """The row of one contest."""
    method, variant, noun, seed = job
    measure, images = learn.measure, learn.concept_images(noun)
    chosen = Learner(
        preset("default", placeholder=WORD, seed=seed, initialization="lowest"),
        *(measure.model, images, measure.clip),
    )
    chosen.step()

    def held_out(word: Any) -> float:
        return measure.loss(noun, word)

    contest = Contest(
        *(measure.model, measure.clip, images, chosen.start.vectors, chosen.calls, seed, CALLS),
        held_out,
    )
    failed = ""
    try:
        run(METHODS[method].variants[variant], contest)
    except (EvokenError, ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
        failed = f"{type(error).__name__}: {error}"[:200]  # the word so far counts
    row = {"calls": contest.calls, "seconds": round(contest.seconds, 1)}
    return {
        "weights": learn.weights(),
        "method": method,
        "variant": variant,
        "noun": noun,
        "seed": seed,
        "failed": failed,
        **row,
        **measure(noun, contest.word),
        "curve": [[p.calls, round(p.seconds, 1), round(p.loss, 5)] for p in contest.curve],
    }
