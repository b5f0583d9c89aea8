"""The synthetic model that shows what workers cost."""

from benchmarks import scale
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import preset


def test_words_are_learned_on_it() -> None:
    settings = preset("default", placeholder="<x>", initialization="random", calls=3_000)
    learner = Learner(settings, scale.sleeper(0.0), scale.latents(), None)
    while not learner.finished:
        learner.step()
    assert learner.best_generation > 0
