"""Styles: filters over a finished picture. The held-out ones are concepts to learn."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Pixels = np.ndarray  # uint8, size x size x 3


def apply(style: str, pixels: Pixels) -> Pixels:
    """The picture in a style; "" leaves it as it is."""
    return STYLES[style](pixels) if style else pixels


def _light(pixels: Pixels) -> np.ndarray:
    """Luma in 0..1."""
    return pixels.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32) / 255


def _edges(pixels: Pixels) -> np.ndarray:
    """Strength of the edges in 0..1, the strongest channel."""
    padded = np.pad(pixels.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    dx = padded[1:-1, 2:] - padded[1:-1, :-2]
    dy = padded[2:, 1:-1] - padded[:-2, 1:-1]
    return np.clip(np.hypot(dx, dy).max(-1) / 200, 0, 1)


def _bytes(values: np.ndarray) -> Pixels:
    return np.clip(values * 255, 0, 255).round().astype(np.uint8)


def _map(light: np.ndarray, dark: tuple[int, ...], bright: tuple[int, ...]) -> Pixels:
    """Light and dark mapped to a gradient between two colours."""
    low, high = np.asarray(dark, np.float32) / 255, np.asarray(bright, np.float32) / 255
    return _bytes(low + light[..., None] * (high - low))


def _pixel_art(pixels: Pixels) -> Pixels:
    size = pixels.shape[0]
    small = Image.fromarray(pixels).resize((size // 4, size // 4), Image.Resampling.BOX)
    return np.asarray(small.resize((size, size), Image.Resampling.NEAREST))


def _pencil_sketch(pixels: Pixels) -> Pixels:
    tone = 1 - 0.85 * _edges(pixels) - 0.12 * (1 - _light(pixels))
    return _bytes(np.repeat(tone[..., None], 3, -1))


def _black_and_white(pixels: Pixels) -> Pixels:
    return _bytes(np.repeat(_light(pixels)[..., None], 3, -1))


def _sepia(pixels: Pixels) -> Pixels:
    return _map(_light(pixels), (46, 26, 10), (255, 236, 196))


def _poster(pixels: Pixels) -> Pixels:
    return ((pixels // 86).astype(np.float32) * 127.5).round().astype(np.uint8)


def _watercolor(pixels: Pixels) -> Pixels:
    soft = Image.fromarray(pixels).filter(ImageFilter.MedianFilter(5))
    return _bytes(np.asarray(soft).astype(np.float32) / 255 * 0.62 + 0.38)


def _neon(pixels: Pixels) -> Pixels:
    colour = pixels.astype(np.float32) / 255
    vivid = np.clip((colour - colour.min(-1, keepdims=True) * 0.7) * 1.4 + 0.15, 0, 1)
    return _bytes(0.04 + vivid * np.clip(_edges(pixels) * 1.3, 0, 1)[..., None])


def _negative(pixels: Pixels) -> Pixels:
    return 255 - pixels


def _oil_painting(pixels: Pixels) -> Pixels:
    strokes = Image.fromarray(pixels).filter(ImageFilter.ModeFilter(5))
    rich = (np.asarray(strokes).astype(np.float32) / 255 - 0.45) * 1.2 + 0.42
    return _bytes(rich)


def _chalkboard(pixels: Pixels) -> Pixels:
    return _map(_edges(pixels) * 0.9 + _light(pixels) * 0.1, (38, 62, 52), (244, 242, 232))


def _woodcut(pixels: Pixels) -> Pixels:
    light = _light(pixels)
    ink = np.clip((light - (light.mean() + 0.05)) * 8 + 0.5, 0, 1)
    return _map(np.minimum(ink, 1 - _edges(pixels)), (22, 18, 16), (250, 244, 230))


def _comic(pixels: Pixels) -> Pixels:
    flat = np.asarray(Image.fromarray(pixels).filter(ImageFilter.ModeFilter(3)))
    vivid = np.clip((flat.astype(np.float32) - 128) * 1.25 + 138, 0, 255) / 255
    return _bytes(vivid * (1 - np.clip(_edges(pixels) * 1.2 - 0.25, 0, 1))[..., None])


def _stained_glass(pixels: Pixels) -> Pixels:
    size = pixels.shape[0]
    small = Image.fromarray(pixels).resize((size // 8, size // 8), Image.Resampling.BOX)
    panes = np.asarray(small.resize((size, size), Image.Resampling.NEAREST)).astype(np.float32)
    blend = panes * 0.4 + pixels.astype(np.float32) * 0.6
    y, x = np.mgrid[:size, :size]
    lead = ((x % 8 == 0) | (y % 8 == 0)).astype(np.float32)[..., None]
    return _bytes(np.clip((blend - 110) * 1.3 + 120, 0, 255) / 255 * (1 - 0.85 * lead))


def _embossed(pixels: Pixels) -> Pixels:
    light = np.pad(_light(pixels), 1, mode="edge")
    slope = light[2:, 2:] - light[:-2, :-2]
    return _bytes(np.repeat((0.55 + slope * 0.8)[..., None], 3, -1))


def _pastel(pixels: Pixels) -> Pixels:
    colour = pixels.astype(np.float32) / 255
    grey = colour.mean(-1, keepdims=True)
    return _bytes(0.5 + (grey + (colour - grey) * 0.65) * 0.5)


def _heat_map(pixels: Pixels) -> Pixels:
    light, knots = _light(pixels), np.asarray([0, 0.25, 0.5, 0.75, 1])
    stops = np.asarray(
        [(12, 8, 60), (120, 20, 140), (226, 70, 60), (250, 170, 40), (255, 250, 190)]
    )
    return np.stack([np.interp(light, knots, stops[:, k]) for k in range(3)], -1).astype(np.uint8)


def _frozen(pixels: Pixels) -> Pixels:
    return _map(_light(pixels), (10, 40, 78), (222, 248, 255))


def _rose_tinted(pixels: Pixels) -> Pixels:
    return _map(_light(pixels), (80, 16, 44), (255, 226, 232))


def _golden(pixels: Pixels) -> Pixels:
    return _map(_light(pixels), (60, 34, 4), (255, 224, 96))


def _jade(pixels: Pixels) -> Pixels:
    return _map(_light(pixels), (12, 48, 44), (206, 244, 224))


def _crayon(pixels: Pixels) -> Pixels:
    size = pixels.shape[0]
    y, x = np.mgrid[:size, :size]
    strokes = 0.5 + 0.5 * np.sin((x * 0.9 + y * 1.7) * 1.1)
    colour = pixels.astype(np.float32) / 255
    paper = 0.28 * strokes[..., None]
    return _bytes(colour * (1 - paper) + paper * 0.98)


def _faded(pixels: Pixels) -> Pixels:
    colour = pixels.astype(np.float32) / 255
    return _bytes((colour * 0.55 + 0.25) * np.asarray([1.0, 0.94, 0.82], np.float32))


def _blueprint(pixels: Pixels) -> Pixels:
    return _map(_edges(pixels), (24, 70, 160), (236, 244, 255))


def _duotone(pixels: Pixels) -> Pixels:
    return _map(_light(pixels), (72, 16, 112), (255, 190, 92))


def _night_vision(pixels: Pixels) -> Pixels:
    return _map(_light(pixels), (4, 30, 8), (150, 255, 140))


STYLES: dict[str, Callable[[Pixels], Pixels]] = {
    "pixel art": _pixel_art,
    "pencil sketch": _pencil_sketch,
    "black and white": _black_and_white,
    "sepia": _sepia,
    "poster": _poster,
    "watercolor": _watercolor,
    "neon": _neon,
    "negative": _negative,
    "oil painting": _oil_painting,
    "chalkboard": _chalkboard,
    "woodcut": _woodcut,
    "comic": _comic,
    "stained glass": _stained_glass,
    "embossed": _embossed,
    "pastel": _pastel,
    "heat map": _heat_map,
    "frozen": _frozen,
    "rose tinted": _rose_tinted,
    "golden": _golden,
    "jade": _jade,
    "crayon": _crayon,
    "faded": _faded,
    "blueprint": _blueprint,
    "duotone": _duotone,
    "night vision": _night_vision,
}
HELD_OUT = ("blueprint", "duotone", "night vision")
TRAINED = tuple(s for s in STYLES if s not in HELD_OUT)
