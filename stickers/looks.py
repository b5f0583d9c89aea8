"""Looks: what can be done to a drawing of an object, and how captions say so.

They make a word's meaning a mixture: a striped cat is neither the cat nor the stripes, and a model
that was told both apart can be told a third thing by a vector between them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageFilter

Rgba = Image.Image
GRID = 3  # squares of the warp in each direction

# Hue (turns) and how dark and how saturated each colour is when a drawing is dyed in it.
DYES = {
    "red": (0.995, 0.85, 0.95),
    "orange": (0.075, 0.90, 1.00),
    "yellow": (0.145, 0.85, 1.05),
    "green": (0.340, 0.75, 0.85),
    "blue": (0.600, 0.80, 0.95),
    "purple": (0.770, 0.65, 0.90),
    "pink": (0.915, 0.50, 1.05),
}


class Look(NamedTuple):
    """A change of a drawing, and the caption's words for it, with ``{0}`` for the noun phrase and
    ``{1}`` for the noun phrase with its article.
    """

    change: Callable[[Rgba, np.random.Generator], Rgba]
    words: str


def warped(image: Rgba, rng: np.random.Generator, strength: float = 0.045) -> Rgba:
    """The drawing bent a little, as a hand would draw it anew; no drawing is a fixed sprite."""
    side = image.width
    knots = np.linspace(0, side, GRID + 1)
    x, y = np.meshgrid(knots, knots)
    moved = rng.normal(0, strength * side, (2, GRID + 1, GRID + 1)).clip(-0.1 * side, 0.1 * side)
    moved[0][:, [0, -1]] *= 0.3  # the rim stays where the canvas ends
    moved[1][[0, -1]] *= 0.3
    x, y = x + moved[0], y + moved[1]
    return _mesh(image, x, y)


def _mesh(image: Rgba, x: np.ndarray, y: np.ndarray) -> Rgba:
    """Every square of a regular grid filled from the quadrilateral at (x, y) in the source."""
    rows, columns = x.shape[0] - 1, x.shape[1] - 1
    knots_x = np.linspace(0, image.width, columns + 1).round().astype(int)
    knots_y = np.linspace(0, image.height, rows + 1).round().astype(int)
    mesh = []
    for r in range(rows):
        for c in range(columns):
            box = (knots_x[c], knots_y[r], knots_x[c + 1], knots_y[r + 1])
            corners = ((r, c), (r + 1, c), (r + 1, c + 1), (r, c + 1))
            quad = tuple(float(v) for i in corners for v in (x[i], y[i]))
            mesh.append((tuple(int(v) for v in box), quad))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def dyed(image: Rgba, dye: str) -> Rgba:
    """The same light and dark in another colour, or in two, the second below: what is vivid or
    grey takes the hue, black and white stay.
    """
    pixels = np.asarray(image).astype(np.float32) / 255
    rgb, alpha = pixels[..., :3], pixels[..., 3:]
    light = rgb.max(-1) * 0.5 + rgb.mean(-1) * 0.5
    vivid = 1 - np.clip((light - 0.88) / 0.12, 0, 1) * 0.75
    out = np.empty_like(rgb)
    names = dye.split(" and ")
    edges = np.linspace(0, image.height, len(names) + 1).round().astype(int)
    for name, top, bottom in zip(names, edges, edges[1:], strict=False):
        hue, saturation, gain = DYES[name]
        colour = np.asarray(_hue_to_rgb(hue), np.float32)
        strength = (saturation * vivid[top:bottom])[..., None]
        out[top:bottom] = light[top:bottom, :, None] * gain * (1 - strength + strength * colour)
    coloured = np.clip(np.concatenate([out, alpha], -1), 0, 1)
    return Image.fromarray((coloured * 255).round().astype(np.uint8), "RGBA")


def _hue_to_rgb(hue: float) -> list[float]:
    """Fully saturated colour of a hue in turns."""
    return [float(np.clip(abs((hue + k) % 1.0 * 6 - 3) - 1, 0, 1)) for k in (0.0, 2 / 3, 1 / 3)]


def joined(first: Rgba, second: Rgba, upright: bool) -> Rgba:
    """One half of each: left and right, or top and bottom."""
    half = first.width // 2
    box = (half, 0, first.width, first.height) if upright else (0, half, first.width, first.height)
    out = first.copy()
    out.paste(second.crop(box), box[:2])
    return out


def _patterned(image: Rgba, marks: np.ndarray) -> Rgba:
    """Marks (0..1) painted over the drawing: darker, or lighter where it is dark."""
    pixels = np.asarray(image).astype(np.float32)
    rgb = pixels[..., :3]
    inked = np.where(rgb.mean(-1, keepdims=True) > 90, rgb * 0.35, 255 - (255 - rgb) * 0.35)
    pixels[..., :3] = rgb + (inked - rgb) * marks[..., None]
    return Image.fromarray(pixels.round().astype(np.uint8), "RGBA")


def _coordinates(image: Rgba, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Both coordinates in units of the side, shifted at random."""
    y, x = np.mgrid[: image.height, : image.width] / image.width
    return x + rng.uniform(0, 1), y + rng.uniform(0, 1)


def _striped(image: Rgba, rng: np.random.Generator) -> Rgba:
    x, y = _coordinates(image, rng)
    angle, count = rng.uniform(-0.6, 0.6), rng.uniform(4, 6)
    along = y * np.cos(angle) + x * np.sin(angle)
    return _patterned(image, (along * count % 1 < 0.42).astype(np.float32))


def _dotted(image: Rgba, rng: np.random.Generator) -> Rgba:
    x, y = _coordinates(image, rng)
    count = rng.uniform(4.5, 6)
    away = np.hypot(x * count % 1 - 0.5, y * count % 1 - 0.5)
    return _patterned(image, (away < 0.29).astype(np.float32))


def _checkered(image: Rgba, rng: np.random.Generator) -> Rgba:
    x, y = _coordinates(image, rng)
    count = rng.uniform(5, 7)
    odd = (np.floor(x * count) + np.floor(y * count)) % 2
    return _patterned(image, odd.astype(np.float32))


def _squeezed(image: Rgba, width: float, height: float) -> Rgba:
    """Scaled by less than one in one direction, in the same square."""
    size = (round(image.width * width), round(image.height * height))
    out = Image.new("RGBA", image.size, (0, 0, 0, 0))
    corner = ((image.width - size[0]) // 2, (image.height - size[1]) // 2)
    out.paste(image.resize(size, Image.Resampling.BILINEAR), corner)
    return out


def _bent(image: Rgba, rng: np.random.Generator) -> Rgba:
    side, rows = image.width, 6
    knots = np.linspace(0, side, rows + 1)
    x, y = np.meshgrid(np.linspace(0, side, 2), knots)
    bow = np.sin(np.linspace(0, np.pi, rows + 1))[:, None] - 0.5
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return _mesh(_squeezed(image, 0.72, 1.0), x + sign * rng.uniform(0.2, 0.26) * side * bow, y)


def _rim(image: Rgba, colour: tuple[int, int, int]) -> Rgba:
    """A line of a colour around the drawing."""
    small = _squeezed(image, 0.92, 0.92)
    alpha = small.getchannel("A").filter(ImageFilter.MaxFilter(7))
    out = Image.new("RGBA", image.size, (*colour, 0))
    out.putalpha(alpha)
    out.alpha_composite(small)
    return out


def _silhouette(image: Rgba, rng: np.random.Generator) -> Rgba:
    shade = int(rng.uniform(10, 40))
    out = Image.new("RGBA", image.size, (shade, shade, shade + 4, 0))
    out.putalpha(image.getchannel("A"))
    return out


def _line_drawing(image: Rgba, rng: np.random.Generator) -> Rgba:
    """Dark lines where colours meet, white between them."""
    solid = Image.new("RGBA", image.size, (255, 255, 255, 255))
    solid.alpha_composite(image)
    rgb = solid.convert("RGB")
    spread = ImageChops.difference(
        rgb.filter(ImageFilter.MaxFilter(5)), rgb.filter(ImageFilter.MinFilter(5))
    )
    alpha = image.getchannel("A")
    edge = ImageChops.difference(
        alpha.filter(ImageFilter.MaxFilter(3)), alpha.filter(ImageFilter.MinFilter(5))
    )
    ink = np.maximum(np.asarray(spread).max(-1), np.asarray(edge)).astype(np.float32) / 255
    tone = (250 - 225 * np.clip(ink * 1.5, 0, 1)).round().astype(np.uint8)
    covered = alpha.filter(ImageFilter.MaxFilter(3))
    return Image.merge("RGBA", [Image.fromarray(tone)] * 3 + [covered])


LOOKS: dict[str, Look] = {
    "striped": Look(_striped, "striped {0}"),
    "dotted": Look(_dotted, "dotted {0}"),
    "checkered": Look(_checkered, "checkered {0}"),
    "tall": Look(lambda image, rng: _squeezed(image, rng.uniform(0.5, 0.62), 1), "tall {0}"),
    "wide": Look(lambda image, rng: _squeezed(image, 1, rng.uniform(0.5, 0.62)), "wide {0}"),
    "bent": Look(_bent, "bent {0}"),
    "tiny": Look(lambda image, rng: _squeezed(image, 0.5, 0.5), "tiny {0}"),
    "upside down": Look(lambda image, rng: image.rotate(180), "{0} upside down"),
    "black outline": Look(lambda image, rng: _rim(image, (12, 12, 14)), "{0} with a black outline"),
    "white outline": Look(
        lambda image, rng: _rim(image, (252, 252, 252)), "{0} with a white outline"
    ),
    "silhouette": Look(_silhouette, "silhouette of {1}"),
    "line drawing": Look(_line_drawing, "line drawing of {1}"),
}
# Looks that need a second drawing: ``{}`` stands for one noun, then for the other.
HALVES = {"left and right": "half {} half {}", "top and bottom": "top of {} on bottom of {}"}
