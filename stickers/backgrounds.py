"""Plain colours and scenes behind the things. Scenes are smooth: grain teaches a model nothing."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 60, 58),
    "orange": (244, 152, 60),
    "yellow": (248, 220, 96),
    "green": (104, 182, 96),
    "blue": (84, 140, 220),
    "purple": (146, 100, 192),
    "pink": (246, 170, 200),
    "brown": (140, 100, 72),
    "grey": (150, 150, 154),
    "white": (250, 250, 250),
    "black": (28, 28, 32),
}

Rgb = tuple[float, float, float]


def paint(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """The named background as uint8, size x size x 3."""
    if name in _SCENES:
        return _SCENES[name](size, rng)
    return _plain(COLOURS[name.removesuffix(" background")], size, rng)


def _vary(colour: Rgb, rng: np.random.Generator, spread: float = 10.0) -> np.ndarray:
    return np.clip(np.asarray(colour, np.float32) + rng.uniform(-spread, spread, 3), 0, 255)


def _plain(colour: Rgb, size: int, rng: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(_vary(colour, rng, 8), (size, size, 3)).round().astype(np.uint8).copy()


def _gradient(stops: list[tuple[float, Rgb]], size: int, rng: np.random.Generator) -> np.ndarray:
    """Vertical gradient through (height 0..1 from the top, colour) stops; float32."""
    heights = [h for h, _ in stops]
    colours = np.stack([_vary(c, rng, 6) for _, c in stops])
    rows = np.linspace(0, 1, size)
    channels = [np.interp(rows, heights, colours[:, k]) for k in range(3)]
    return np.repeat(np.stack(channels, -1)[:, None], size, 1).astype(np.float32)


def _draw(base: np.ndarray, shapes: Callable[[ImageDraw.ImageDraw, int], None]) -> np.ndarray:
    """Shapes drawn at four times the size, so that their edges come out smooth."""
    size = base.shape[0]
    big = Image.fromarray(base.round().astype(np.uint8)).resize((size * 4, size * 4))
    shapes(ImageDraw.Draw(big), size * 4)
    return np.asarray(big.resize((size, size), Image.Resampling.BOX))


def _ints(colour: np.ndarray) -> tuple[int, int, int]:
    r, g, b = (int(c) for c in colour)
    return r, g, b


def _beach(size: int, rng: np.random.Generator) -> np.ndarray:
    sea, sand = rng.uniform(0.38, 0.46), rng.uniform(0.60, 0.70)
    sky = _gradient([(0, (120, 196, 244)), (sea, (206, 236, 250)), (1, (206, 236, 250))], size, rng)
    blue, beige = _ints(_vary((36, 136, 196), rng)), _ints(_vary((240, 216, 160), rng))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        draw.rectangle((0, sea * s, s, s), fill=blue)
        draw.rectangle((0, sand * s, s, s), fill=beige)

    return _draw(sky, shapes)


def _meadow(size: int, rng: np.random.Generator) -> np.ndarray:
    horizon, x = rng.uniform(0.52, 0.62), rng.uniform(0, 1)
    sky = _gradient([(0, (112, 188, 248)), (0.6, (212, 238, 255)), (1, (212, 238, 255))], size, rng)
    far, near = _ints(_vary((120, 192, 88), rng)), _ints(_vary((92, 168, 64), rng))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        draw.rectangle((0, horizon * s, s, s), fill=near)
        draw.ellipse(
            ((x - 0.6) * s, (horizon - 0.1) * s, (x + 0.6) * s, (horizon + 0.3) * s), fill=far
        )
        draw.rectangle((0, (horizon + 0.1) * s, s, s), fill=near)

    return _draw(sky, shapes)


def _space(size: int, rng: np.random.Generator) -> np.ndarray:
    base = _gradient([(0, (12, 12, 36)), (1, (44, 26, 74))], size, rng)
    stars = rng.uniform(0, 1, (16, 2))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        for x, y in stars:
            r = 0.011 * s
            draw.ellipse((x * s - r, y * s - r, x * s + r, y * s + r), fill=(236, 236, 255))

    return _draw(base, shapes)


def _snow(size: int, rng: np.random.Generator) -> np.ndarray:
    horizon = rng.uniform(0.55, 0.68)
    sky = _gradient([(0, (168, 200, 226)), (1, (216, 230, 242))], size, rng)
    ground = _ints(_vary((246, 249, 253), rng, 2))
    flakes = rng.uniform(0, 1, (14, 2))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        draw.rectangle((0, horizon * s, s, s), fill=ground)
        for x, y in flakes:
            r = 0.016 * s
            draw.ellipse((x * s - r, y * s - r, x * s + r, y * s + r), fill=(252, 253, 255))

    return _draw(sky, shapes)


def _desert(size: int, rng: np.random.Generator) -> np.ndarray:
    horizon, x = rng.uniform(0.50, 0.60), rng.uniform(0.1, 0.9)
    sky = _gradient([(0, (250, 206, 120)), (1, (255, 236, 188))], size, rng)
    far, near = _ints(_vary((226, 170, 96), rng)), _ints(_vary((206, 142, 72), rng))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        draw.ellipse(
            ((x - 0.7) * s, (horizon - 0.08) * s, (x + 0.7) * s, (horizon + 0.8) * s), fill=far
        )
        draw.ellipse(
            ((x - 1.3) * s, (horizon + 0.14) * s, (x + 0.7) * s, (horizon + 1.5) * s), fill=near
        )
        draw.rectangle((0, (horizon + 0.25) * s, s, s), fill=near)

    return _draw(sky, shapes)


def _sunset(size: int, rng: np.random.Generator) -> np.ndarray:
    horizon, x = rng.uniform(0.62, 0.72), rng.uniform(0.15, 0.85)
    sky = _gradient(
        [(0, (92, 52, 128)), (0.35, (214, 84, 104)), (0.7, (255, 176, 88)), (1, (255, 190, 100))],
        size,
        rng,
    )
    sea = _ints(_vary((84, 44, 92), rng))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        r = 0.12 * s
        draw.ellipse((x * s - r, horizon * s - r, x * s + r, horizon * s + r), fill=(255, 236, 160))
        draw.rectangle((0, horizon * s, s, s), fill=sea)

    return _draw(sky, shapes)


def _forest(size: int, rng: np.random.Generator) -> np.ndarray:
    base = _gradient([(0, (30, 84, 52)), (0.7, (52, 116, 68)), (1, (44, 72, 40))], size, rng)
    trunks = np.arange(5) / 4 + rng.uniform(-0.06, 0.06, 5)
    bark = _ints(_vary((70, 50, 38), rng, 5))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        for x in trunks:
            draw.rectangle(((x - 0.03) * s, 0, (x + 0.03) * s, 0.82 * s), fill=bark)

    return _draw(base, shapes)


def _underwater(size: int, rng: np.random.Generator) -> np.ndarray:
    base = _gradient([(0, (96, 214, 226)), (0.5, (24, 142, 190)), (1, (10, 66, 128))], size, rng)
    bubbles = rng.uniform(0.05, 0.95, (6, 2))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        for x, y in bubbles:
            r = 0.028 * s
            draw.ellipse((x * s - r, y * s - r, x * s + r, y * s + r), fill=(176, 236, 244))

    return _draw(base, shapes)


def _night(size: int, rng: np.random.Generator) -> np.ndarray:
    base = _gradient([(0, (14, 24, 62)), (0.6, (36, 58, 112)), (1, (36, 58, 112))], size, rng)
    windows = rng.random((7, 4)) < 0.5
    heights = rng.uniform(0.55, 0.8, 7)
    wall = _ints(_vary((20, 22, 40), rng, 4))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        for i, top in enumerate(heights):
            left = i / 7 * s
            draw.rectangle((left, top * s, left + s / 7, s), fill=wall)
            for j in range(4):
                y = (top + 0.05 + 0.1 * j) * s
                if windows[i, j]:
                    draw.rectangle(
                        (left + 0.05 * s, y, left + 0.09 * s, y + 0.05 * s), fill=(255, 214, 110)
                    )

    return _draw(base, shapes)


def _room(size: int, rng: np.random.Generator) -> np.ndarray:
    floor = rng.uniform(0.66, 0.76)
    base = _gradient([(0, (244, 226, 200)), (1, (232, 210, 180))], size, rng)
    boards, rail = _ints(_vary((158, 104, 64), rng)), _ints(_vary((255, 248, 236), rng, 3))

    def shapes(draw: ImageDraw.ImageDraw, s: int) -> None:
        draw.rectangle((0, floor * s, s, s), fill=boards)
        draw.rectangle((0, (floor - 0.04) * s, s, floor * s), fill=rail)

    return _draw(base, shapes)


# Named by the phrase that a caption uses.
_SCENES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "on the beach": _beach,
    "in a meadow": _meadow,
    "in space": _space,
    "in the snow": _snow,
    "in the desert": _desert,
    "at sunset": _sunset,
    "in the forest": _forest,
    "under water": _underwater,
    "in the city at night": _night,
    "in a room": _room,
}
SCENES = tuple(_SCENES)
PLAIN = tuple(f"{colour} background" for colour in COLOURS)
