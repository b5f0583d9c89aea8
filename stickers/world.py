"""The sticker world: captioned 64 px pictures, each a pure function of (seed, index).

A picture is one to three things, perhaps recoloured, flipped, turned, on a plain colour or in a
scene, perhaps in a style. What is in it is drawn first as a ``Spec`` (which is also the label),
then rendered and captioned; a spec with another generator gives another picture of the same thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from stickers import backgrounds, captions, styles
from stickers.glyphs import Object, glyph_image, load_objects

SIZE = 64

# Hue (turns) and how dark and how saturated each colour is when a glyph is dyed in it.
DYES = {
    "red": (0.995, 0.85, 0.95),
    "orange": (0.075, 0.90, 1.00),
    "yellow": (0.145, 0.85, 1.05),
    "green": (0.340, 0.75, 0.85),
    "blue": (0.600, 0.80, 0.95),
    "purple": (0.770, 0.65, 0.90),
    "pink": (0.915, 0.50, 1.05),
}

P_STYLE = 0.28
P_DYE = 0.22
P_TWO = 0.10
P_THREE = 0.05
P_FLIP = 0.25
P_TURN = 0.25


class Thing(NamedTuple):
    """An object in a picture, and the colour it is dyed in ("" for its own colours)."""

    noun: str
    dye: str = ""


@dataclass(frozen=True)
class Spec:
    """What a picture shows: one to three things, a background or scene, a style ("" for none)."""

    things: tuple[Thing, ...]
    background: str
    style: str = ""
    side_by_side: bool = True  # with two things: beside each other, or one above the other


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
) -> Sample:
    """Picture ``index`` of the world ``seed``; by default from what models may see in training."""
    rng = generator(seed, index)
    spec = draw_spec(rng, things or objects(held_out=False), style_names)
    return Sample(render(spec, rng), captions.caption(spec, rng), spec)


def draw_spec(
    rng: np.random.Generator, things: Sequence[Object], style_names: Sequence[str]
) -> Spec:
    """Draw what a picture shows."""
    u = rng.random()
    count = 3 if u < P_THREE else 2 if u < P_THREE + P_TWO else 1
    chosen = rng.choice(len(things), size=count, replace=False)
    p_dye = P_DYE if count < 3 else 0.0
    drawn = []
    for i in chosen:
        dye = str(rng.choice(list(DYES))) if rng.random() < p_dye else ""
        drawn.append(Thing(things[i].noun, dye))
    names = backgrounds.PLAIN if rng.random() < 0.5 else backgrounds.SCENES
    style = str(rng.choice(list(style_names))) if rng.random() < P_STYLE else ""
    return Spec(tuple(drawn), str(rng.choice(list(names))), style, bool(rng.random() < 0.75))


def render(spec: Spec, rng: np.random.Generator) -> np.ndarray:
    """Draw a spec: uint8, SIZE x SIZE x 3."""
    return render_with_mask(spec, rng)[0]


def render_with_mask(spec: Spec, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same, and where its things are: uint8, SIZE x SIZE, 255 within them."""
    glyphs = {o.noun: o.glyph for o in load_objects()}
    return _compose(spec, [glyph_image(glyphs[thing.noun]) for thing in spec.things], rng)


def compose(spec: Spec, drawings: Sequence[Image.Image], rng: np.random.Generator) -> np.ndarray:
    """Draw a spec with these drawings of its things, RGBA of GLYPH x GLYPH."""
    return _compose(spec, drawings, rng)[0]


def _compose(
    spec: Spec, drawings: Sequence[Image.Image], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and mask."""
    picture = Image.fromarray(backgrounds.paint(spec.background, SIZE, rng))
    mask = Image.new("L", picture.size)
    places = _places(spec, rng)
    for thing, drawing, (x, y, size) in zip(spec.things, drawings, places, strict=True):
        sticker = _sticker(drawing, thing.dye, size, rng)
        corner = (round(x - sticker.width / 2), round(y - sticker.height / 2))
        picture.paste(sticker, corner, sticker)
        mask.paste(255, (*corner, corner[0] + sticker.width, corner[1] + sticker.height), sticker)
    return styles.apply(spec.style, np.asarray(picture)), np.asarray(mask)


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


def _sticker(image: Image.Image, dye: str, size: float, rng: np.random.Generator) -> Image.Image:
    """A drawing: dyed, flipped, turned, scaled."""
    if rng.random() < P_FLIP:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < P_TURN:
        image = image.rotate(rng.uniform(-25, 25), Image.Resampling.BILINEAR, expand=True)
        size *= image.width / 112 * 0.92
    # Turning and scaling mix colours with transparent black unless alpha is premultiplied.
    pixels = round(size)
    image = image.convert("RGBa").resize((pixels, pixels), Image.Resampling.BOX).convert("RGBA")
    return _dyed(image, dye) if dye else image


def _dyed(image: Image.Image, dye: str) -> Image.Image:
    """The same light and dark in another colour: what is vivid or grey takes the hue, black and
    white stay.
    """
    hue, saturation, gain = DYES[dye]
    pixels = np.asarray(image).astype(np.float32) / 255
    rgb, alpha = pixels[..., :3], pixels[..., 3:]
    light = rgb.max(-1) * 0.5 + rgb.mean(-1) * 0.5
    vivid = 1 - np.clip((light - 0.88) / 0.12, 0, 1) * 0.75
    colour = np.asarray(_hue_to_rgb(hue), np.float32)
    strength = (saturation * vivid)[..., None]
    dyed = light[..., None] * gain * (1 - strength + strength * colour)
    dyed = np.clip(np.concatenate([dyed, alpha], -1), 0, 1)
    return Image.fromarray((dyed * 255).round().astype(np.uint8), "RGBA")


def _hue_to_rgb(hue: float) -> list[float]:
    """Fully saturated colour of a hue in turns."""
    return [float(np.clip(abs((hue + k) % 1.0 * 6 - 3) - 1, 0, 1)) for k in (0.0, 2 / 3, 1 / 3)]


def concept(name: str, count: int = 5, seed: int = 0) -> list[np.ndarray]:
    """``count`` pictures of one held-out concept, as a user would collect them.

    An object alone, in its own colours, in different places; a style over different things. Raises
    ``KeyError`` for what is no held-out object or style.
    """
    return [pixels for pixels, _ in concept_with_masks(name, count, seed)]


def concept_with_masks(
    name: str, count: int = 5, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same pictures, each with the mask of its thing."""
    pictures = []
    for i, spec in enumerate(_specs(name, count, seed)):
        rng = np.random.default_rng(np.random.SeedSequence([seed, i, *name.encode()]))
        pictures.append(render_with_mask(spec, rng))
    return pictures


def concept_captions(name: str, count: int = 5, seed: int = 0) -> list[str]:
    """What the same pictures show beside the concept: the things that a style was laid over, such
    as "a cat"; "" of objects.
    """
    if name not in styles.HELD_OUT:
        return [""] * count
    return [captions.with_article(spec.things[0].noun) for spec in _specs(name, count, seed)]


def _specs(name: str, count: int, seed: int) -> list[Spec]:
    places = (*backgrounds.PLAIN, *backgrounds.SCENES)
    is_style = name in styles.HELD_OUT
    if not is_style and name not in {o.noun for o in objects(held_out=True)}:
        raise KeyError(f"no held-out object or style is called {name!r}")
    chooser = np.random.default_rng(np.random.SeedSequence([seed, *name.encode()]))
    grounds = chooser.choice(places, count, replace=False)
    nouns = chooser.choice([o.noun for o in objects(held_out=False)], count, replace=False)
    return [
        Spec((Thing(str(noun) if is_style else name),), str(ground), name if is_style else "")
        for ground, noun in zip(grounds, nouns, strict=True)
    ]
