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
    "blueprint": _blueprint,
    "duotone": _duotone,
    "night vision": _night_vision,
}
HELD_OUT = ("blueprint", "duotone", "night vision")
TRAINED = tuple(s for s in STYLES if s not in HELD_OUT)
