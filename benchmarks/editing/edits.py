"""Edits of sticker pictures: what is to change and where, and how to see that it did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from stickers import backgrounds, styles, world
from stickers.captions import with_article
from stickers.world import DYES, SIZE, Spec, Thing

KINDS = ("object", "colour", "scene", "style")
LISTS = {"report": 9300, "tuning": 9310}  # world seeds that no training used
MARGIN = 2  # px around a thing, where its edge is mixed with the background
LEAST = 64  # px that an edit must keep, if it is to keep any

Mask = np.ndarray  # SIZE x SIZE, bool
Colour = np.ndarray  # 3, 0 to 255


@dataclass(frozen=True)
class Edit:
    """One edit of a fresh picture of one thing.

    Attributes:
        name: its list and its number there.
        pixels: the picture, uint8.
        ideal: what the world itself draws for the target, uint8.
        inside: where the picture is to change: the old thing and the new one; everything but the
            thing for a scene; everything for a style.
        thing: where the thing is.
        asked: what the judge has to find, by question; a "colour" is found by ``colour_of``.
        palette: for an edit of colour, the mean colour of the thing in each dye.
    """

    name: str
    kind: str
    pixels: np.ndarray
    ideal: np.ndarray
    inside: Mask
    thing: Mask
    source: Spec
    target: Spec
    asked: Mapping[str, str]
    palette: Mapping[str, Colour] = field(default_factory=dict)

    @property
    def prompts(self) -> tuple[str, str]:
        """What it shows and what it should show."""
        return describe(self.source), describe(self.target)

    def colour_of(self, pixels: np.ndarray) -> str:
        """The dye in which the thing's mean colour would be nearest to that of a picture."""
        found = pixels[self.thing].mean(0)
        return min(self.palette, key=lambda dye: float(np.square(self.palette[dye] - found).sum()))


def describe(spec: Spec) -> str:
    """A plain caption of one thing in a place."""
    ground = spec.background
    where = f"on {with_article(ground)}" if ground in backgrounds.PLAIN else ground
    what = f"{spec.things[0].dye} {spec.things[0].noun}".strip()
    form = f"{with_article(spec.style)} picture of" if spec.style else "a photo of"
    return f"{form} {with_article(what)} {where}"


def edits(which: str, numbers: Sequence[int]) -> list[Edit]:
    """Some edits of one of the LISTS. The kinds alternate; every second thing of a kind is one that
    no model has seen, and what a thing is turned into is always known.
    """
    return [_edit(which, number) for number in numbers]


def _edit(which: str, number: int) -> Edit:
    """The first draw that asks for something and, unless it asks for a style, keeps something."""
    for attempt in count():
        found = _draw(which, number, np.random.SeedSequence([LISTS[which], number, attempt]))
        kept = int((~found.inside).sum())
        already = found.kind == "colour" and found.colour_of(found.pixels) == found.asked["colour"]
        if not already and (kept >= LEAST or found.kind == "style"):
            return found
    raise AssertionError


def _draw(which: str, number: int, seed: np.random.SeedSequence) -> Edit:
    rng = np.random.default_rng(seed)
    kind = KINDS[number % len(KINDS)]
    nouns = [o.noun for o in world.objects(held_out=number // len(KINDS) % 2 == 1)]
    thing = Thing(str(rng.choice(nouns)))
    source = Spec((thing,), str(rng.choice((*backgrounds.PLAIN, *backgrounds.SCENES))))
    target, asked = _target(kind, source, rng)
    again = int(rng.integers(2**32))
    pixels = world.render(source, np.random.default_rng(again))
    there = _thing(source, again)
    palette = {}
    if kind in ("object", "colour"):  # on the same background, from the same random numbers
        ideal = world.render(target, np.random.default_rng(again))
        inside = binary_dilation(there | _thing(target, again), iterations=MARGIN)
    elif kind == "scene":
        ground = backgrounds.paint(target.background, SIZE, np.random.default_rng(again))
        ideal = np.where(there[..., None], pixels, ground)
        inside = ~binary_erosion(there, iterations=MARGIN)
    else:
        ideal, inside = styles.apply(target.style, pixels), np.ones_like(there)
    if kind == "colour":
        for dye in DYES:
            dyed = replace(source, things=(thing._replace(dye=dye),))
            palette[dye] = world.render(dyed, np.random.default_rng(again))[there].mean(0)
    name = f"{which} {number}"
    return Edit(name, kind, pixels, ideal, inside, there, source, target, asked, palette)


def _target(kind: str, source: Spec, rng: np.random.Generator) -> tuple[Spec, dict[str, str]]:
    """What the picture is to show, and what of it the judge is asked for."""
    thing = source.things[0]
    if kind == "object":
        known = [o.noun for o in world.objects(held_out=False) if o.noun != thing.noun]
        noun = str(rng.choice(known))
        return replace(source, things=(thing._replace(noun=noun),)), {"object": noun}
    if kind == "colour":
        dye = str(rng.choice(list(DYES)))
        dyed = replace(source, things=(thing._replace(dye=dye),))
        return dyed, {"object": thing.noun, "colour": dye}
    if kind == "scene":
        others = [scene for scene in backgrounds.SCENES if scene != source.background]
        scene = str(rng.choice(others))
        return replace(source, background=scene), {"background": scene}
    style = str(rng.choice(styles.TRAINED))
    return replace(source, style=style), {"style": style}


def _thing(spec: Spec, seed: int) -> Mask:
    """Where the picture is not its background."""
    pixels = world.render(spec, np.random.default_rng(seed))
    ground = backgrounds.paint(spec.background, SIZE, np.random.default_rng(seed))
    different: Mask = (pixels != ground).any(-1)
    return different
