"""The sticker world: captioned 64 px pictures, each a pure function of (seed, index).

A picture is one to three things, each drawn by one of several hands and perhaps changed, on a plain
colour or in a scene, perhaps in a style. What is in it is drawn first as a ``Spec`` (which is also
the label), then rendered and captioned; a spec with another generator gives another picture of the
same thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stickers import backgrounds, captions, styles
from stickers.drawings import HANDS, SIDE, Object, drawings, load_objects
from stickers.looks import DYES, HALVES, LOOKS, dyed, joined, warped
from stickers.spec import Spec, Thing

SIZE = 64
TRAINED_HANDS = tuple(name for name, hand in HANDS.items() if not hand.held_out)

P_STYLE = 0.28
P_DYE = 0.20
P_TWO_DYES = 0.15  # of those that are dyed
P_LOOK = 0.30  # of a thing alone
P_HALVES = 0.15  # of those that have a look
P_TWO = 0.10
P_THREE = 0.04
P_FLIP = 0.25
P_TURN = 0.25


@dataclass(frozen=True)
class Sample:
    """One picture of the world: uint8 pixels, SIZE x SIZE x 3, with its caption and its labels."""

    pixels: np.ndarray
    caption: str
    spec: Spec


def generator(seed: int, index: int) -> np.random.Generator:
    """The generator of one picture; no picture depends on any other."""
    return np.random.default_rng(np.random.SeedSequence([seed, index]))


def objects(held_out: bool) -> tuple[Object, ...]:
    """The trained or the held-out objects."""
    return tuple(o for o in load_objects() if o.held_out == held_out)


def sample(
    seed: int,
    index: int,
    things: Sequence[Object] | None = None,
    style_names: Sequence[str] = styles.TRAINED,
    hands: Sequence[str] = TRAINED_HANDS,
) -> Sample:
    """Picture ``index`` of the world ``seed``; by default from what models may see in training."""
    rng = generator(seed, index)
    spec = draw_spec(rng, things or objects(held_out=False), style_names, hands)
    return Sample(render(spec, rng), captions.caption(spec, rng), spec)


def draw_spec(
    rng: np.random.Generator,
    things: Sequence[Object],
    style_names: Sequence[str],
    hands: Sequence[str] = TRAINED_HANDS,
) -> Spec:
    """Draw what a picture shows."""
    u = rng.random()
    count = 3 if u < P_THREE else 2 if u < P_THREE + P_TWO else 1
    chosen = [things[i] for i in rng.choice(len(things), size=count + 1, replace=False)]
    partner = chosen.pop()
    drawn = [_thing(rng, o.noun, hands, P_DYE if count < 3 else 0.0) for o in chosen]
    if count == 1 and rng.random() < P_LOOK:
        halves = rng.random() < P_HALVES
        look = str(rng.choice(list(HALVES if halves else LOOKS)))
        drawn = [drawn[0]._replace(look=look, partner=partner.noun if halves else "")]
    names = backgrounds.PLAIN if rng.random() < 0.5 else backgrounds.SCENES
    style = str(rng.choice(list(style_names))) if rng.random() < P_STYLE else ""
    return Spec(tuple(drawn), str(rng.choice(list(names))), style, bool(rng.random() < 0.75))


def _thing(rng: np.random.Generator, noun: str, hands: Sequence[str], p_dye: float) -> Thing:
    """An object by one of the hands that drew it, perhaps dyed."""
    able = [hand for hand in drawings()[noun] if hand in hands] or list(drawings()[noun])
    dye = ""
    if rng.random() < p_dye:
        colours = 2 if rng.random() < P_TWO_DYES else 1
        dye = " and ".join(rng.choice(list(DYES), colours, replace=False))
    return Thing(noun, dye, str(rng.choice(able)))


def render(spec: Spec, rng: np.random.Generator) -> np.ndarray:
    """Draw a spec: uint8, SIZE x SIZE x 3."""
    picture = Image.fromarray(backgrounds.paint(spec.background, SIZE, rng))
    for thing, (x, y, size) in zip(spec.things, _places(spec, rng), strict=True):
        sticker = _sticker(thing, size, rng)
        corner = (round(x - sticker.width / 2), round(y - sticker.height / 2))
        picture.paste(sticker, corner, sticker)
    return styles.apply(spec.style, np.asarray(picture))


def _places(spec: Spec, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centre x, centre y and size of each thing, in pixels."""

    def near(value: float, spread: float) -> float:
        return value + rng.uniform(-spread, spread)

    if len(spec.things) == 1:
        size = rng.uniform(0.60, 0.86) * SIZE
        slack = 0.30 * (SIZE - size)
        return [(near(SIZE / 2, slack), near(SIZE / 2, slack), size)]
    if len(spec.things) == 2:
        centres = (17.0, 47.0)
        sizes = [rng.uniform(27, 32) for _ in centres]
        if spec.side_by_side:
            return [(near(c, 1.5), near(34, 5), s) for c, s in zip(centres, sizes, strict=True)]
        return [(near(32, 8), near(c, 1.5), s) for c, s in zip(centres, sizes, strict=True)]
    corners = ((16.5, 18.0), (47.5, 18.0), (32.0, 47.0))
    return [(near(x, 1.5), near(y, 1.5), rng.uniform(25, 29)) for x, y in corners]


def _sticker(thing: Thing, size: float, rng: np.random.Generator) -> Image.Image:
    """The drawing of a thing: bent a little, changed, dyed, flipped, turned, scaled."""
    image = warped(_drawing(thing.noun, thing.hand, rng), rng)
    if thing.partner:
        other = warped(_drawing(thing.partner, thing.hand, rng), rng)
        image = joined(image, other, upright=thing.look == "left and right")
    elif thing.look:
        image = LOOKS[thing.look].change(image, rng)
    if rng.random() < P_FLIP:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < P_TURN:
        image = image.rotate(rng.uniform(-25, 25), Image.Resampling.BILINEAR, expand=True)
        size *= image.width / SIDE * 0.92
    # Turning and scaling mix colours with transparent black unless alpha is premultiplied.
    pixels = round(size)
    image = image.convert("RGBa").resize((pixels, pixels), Image.Resampling.BOX).convert("RGBA")
    return dyed(image, thing.dye) if thing.dye else image


def _drawing(noun: str, hand: str, rng: np.random.Generator) -> Image.Image:
    """One of the hand's drawings of an object; another hand's where it drew none."""
    by_hand = drawings()[noun]
    choices = by_hand.get(hand) or next(iter(by_hand.values()))
    return Image.fromarray(choices[int(rng.integers(len(choices)))], "RGBA")


def concept(name: str, count: int = 5, seed: int = 0) -> list[np.ndarray]:
    """``count`` pictures of one held-out concept, as a user would collect them.

    An object alone, in its own colours, in different places; a style over different things. Raises
    ``KeyError`` for what is no held-out object or style.
    """
    places = (*backgrounds.PLAIN, *backgrounds.SCENES)
    is_style = name in styles.HELD_OUT
    if not is_style and name not in {o.noun for o in objects(held_out=True)}:
        raise KeyError(f"no held-out object or style is called {name!r}")
    chooser = np.random.default_rng(np.random.SeedSequence([seed, *name.encode()]))
    grounds = chooser.choice(places, count, replace=False)
    nouns = chooser.choice([o.noun for o in objects(held_out=False)], count, replace=False)
    pictures = []
    for i, (ground, noun) in enumerate(zip(grounds, nouns, strict=True)):
        things = (Thing(str(noun)),) if is_style else (Thing(name),)
        spec = Spec(things, str(ground), name if is_style else "")
        rng = np.random.default_rng(np.random.SeedSequence([seed, i, *name.encode()]))
        pictures.append(render(spec, rng))
    return pictures
