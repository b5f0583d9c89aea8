"""How long the first steps of a search are, where its settings leave it open."""

from dataclasses import replace

from evoken.search.table import search_of
from evoken.textual_inversion.settings import SHORT, WITHIN, LearnSettings


def first_steps(settings: LearnSettings, length_heard: bool) -> float:
    """The sigma of a run, in spreads of the vocabulary.

    Long steps make long words (decision 18), which are good ones where the text encoder normalises
    what it gives: of a long vector nothing is left but its direction. Where it does not, a word
    that is hundreds of times as long as others reaches the denoiser as such (decision 21).

    Args:
        length_heard: whether a model hears how long a word is.
    """
    if settings.sigma:
        return settings.sigma
    if settings.objective == "similarity":
        return SHORT
    suits = search_of(settings.search).sigma
    if settings.fidelity:
        suits = min(suits, WITHIN * settings.fidelity)
    return min(suits, SHORT) if length_heard else suits


def would_be_shorter(settings: LearnSettings, first: float) -> bool:
    """Whether a fidelity of 2 would have made a run's first steps shorter.

    Args:
        first: the sigma of its first record.
    """
    reach = search_of(settings.search).reach
    return first > reach * first_steps(replace(settings, fidelity=2.0), False)
