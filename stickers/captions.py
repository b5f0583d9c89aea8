"""Captions: plain English for a spec, in many forms, so that no single wording means the picture.

The 27 object and 19 style templates of textual inversion (Gal et al. 2022) are among the forms,
because words will be learned in those sentences.
"""

import numpy as np

from evoken.prompts import OBJECT_TEMPLATES, STYLE_TEMPLATES
from stickers.drawings import MANNERS
from stickers.looks import HALVES, LOOKS
from stickers.spec import Spec, Thing

FORMS = (
    "a photo of {}",
    "a photo of {}",
    "a photo of {}",
    "{}",
    "{}",
    "a picture of {}",
    "an image of {}",
    "a sticker of {}",
    "a drawing of {}",
    "here is {}",
    "this is {}",
    "an illustration of {}",
)
STYLED = (
    "{what} in the style of {style}",
    "{what}, {style}",
    "{what}, {style} style",
    "a {style} picture of {what}",
    "a {style} of {what}",
    "a {style} image of {what}",
)
P_STYLE_ALONE = 0.12  # a style template names the style and leaves out the thing
P_TEMPLATE = 0.35
P_NO_BACKGROUND = 0.15
P_MANNER = 0.25  # the caption names the hand


def caption(spec: Spec, rng: np.random.Generator) -> str:
    """One of the many ways to say what the picture shows."""
    where = "" if rng.random() < P_NO_BACKGROUND else _where(spec, rng)
    if spec.style and rng.random() < P_STYLE_ALONE:
        return _pick(STYLE_TEMPLATES, rng).format(spec.style) + where
    phrases = [_phrase(thing, rng) for thing in spec.things]
    if not spec.style and len(phrases) == 1 and rng.random() < P_TEMPLATE:
        return _pick(OBJECT_TEMPLATES, rng).format(phrases[0]) + where
    what = _what(spec, phrases, rng)
    if spec.style:
        return _pick(STYLED, rng).format(what=what + where, style=spec.style)
    return _pick(FORMS, rng).format(what) + where


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[rng.integers(len(choices))]


def _phrase(thing: Thing, rng: np.random.Generator) -> str:
    """The thing without article: "flat striped red cat", "half cat half dog"."""
    if thing.partner:
        words = HALVES[thing.look].format(thing.noun, thing.partner)
        words = f"{thing.dye} {words}" if thing.dye else words
    else:
        words = f"{thing.dye} {thing.noun}" if thing.dye else thing.noun
        words = LOOKS[thing.look].words.format(words, with_article(words)) if thing.look else words
    manner = MANNERS.get(thing.hand)
    return f"{manner} {words}" if manner and rng.random() < P_MANNER else words


def with_article(phrase: str) -> str:
    """A cat, an owl"""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _what(spec: Spec, phrases: list[str], rng: np.random.Generator) -> str:
    named = [with_article(phrase) for phrase in phrases]
    if len(named) == 1:
        return named[0]
    if len(named) == 3:
        return f"{named[0]}, {named[1]} and {named[2]}"
    first, second = named
    if spec.side_by_side:
        forms = ("{} and {}", "{} next to {}", "{} left of {}")
    else:
        forms = ("{} above {}", "{} over {}", "{} on top of {}")
    return _pick(forms, rng).format(first, second)


def _where(spec: Spec, rng: np.random.Generator) -> str:
    if not spec.background.endswith(" background"):
        return f" {spec.background}"
    colour = spec.background.removesuffix(" background")
    return f" on {with_article(colour)} background" if rng.random() < 0.75 else f" on {colour}"
