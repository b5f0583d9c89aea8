"""The objects of the sticker world: which glyphs, what they are called, what they look like.

Glyphs are bitmaps of the Noto Color Emoji font (Debian ``fonts-noto-color-emoji``, SIL Open Font
License 1.1); names are the English short names of CLDR (Debian ``unicode-cldr-core``, Unicode
licence). Both are read from the system: they are needed to make models, never to use them.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

UNPACKED = Path(__file__).parent.parent / "build" / "debian"  # by the Makefile, if not installed


def _debian(path: str) -> Path:
    installed = Path("/") / path
    return installed if installed.exists() else UNPACKED / path


FONT = _debian("usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
ANNOTATIONS = _debian("usr/share/unicode/cldr/common/annotations/en.xml")
OBJECTS = Path(__file__).with_name("objects.txt")
INSTALL = "apt-get install fonts-noto-color-emoji unicode-cldr-core"

STRIKE = 109  # the only bitmap size in the font
GLYPH = 112  # glyphs are kept at this square size, cropped to their ink

# CLDR spells some names as a catalogue would; captions say what people say.
SPOKEN = {
    "dog face": "dog",
    "cat face": "cat",
    "tiger face": "tiger",
    "horse face": "horse",
    "cow face": "cow",
    "mouse face": "mouse",
    "monkey face": "monkey",
    "spouting whale": "whale",
    "lady beetle": "ladybug",
    "ear of corn": "corn",
    "hot beverage": "coffee cup",
    "sun with face": "sun",
    "soft ice cream": "ice cream",
    "vertical traffic light": "traffic light",
    "hourglass done": "hourglass",
    "poultry leg": "chicken leg",
    "fire engine": "fire truck",
    "red paper lantern": "paper lantern",
    "crossed swords": "swords",
    "jack-o-lantern": "pumpkin",
    "piñata": "pinata",
}


@dataclass(frozen=True)
class Object:
    """One thing of the world: its noun in captions, its glyph, its group, its split."""

    noun: str
    glyph: str
    group: str
    held_out: bool


@cache
def load_objects() -> tuple[Object, ...]:
    """Every object of ``objects.txt``, in file order; raises ``FileNotFoundError`` without CLDR."""
    if not ANNOTATIONS.exists():
        raise FileNotFoundError(f"expected the names of glyphs at {ANNOTATIONS}; run: {INSTALL}")
    xml = ANNOTATIONS.read_text(encoding="utf-8")
    glyphs = {name: cp for cp, name in re.findall(r'cp="([^"]+)" type="tts">([^<]+)<', xml)}
    objects = []
    for line in OBJECTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        group, names = line.split(":", 1)
        for entry in names.split(","):
            name = entry.strip().lstrip("*")
            noun = SPOKEN.get(name, name).lower()
            objects.append(Object(noun, glyphs[name], group, entry.strip().startswith("*")))
    return tuple(objects)


@cache
def glyph_image(glyph: str) -> Image.Image:
    """The glyph as RGBA, ink centred in a transparent GLYPH x GLYPH square."""
    if not FONT.exists():
        raise FileNotFoundError(f"expected the font at {FONT}; run: {INSTALL}")
    font = ImageFont.truetype(str(FONT), STRIKE)
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((8, 16), glyph, font=font, embedded_color=True)
    ink = canvas.crop(canvas.getbbox())
    return in_square(ink)


def in_square(ink: Image.Image) -> Image.Image:
    """A cropped drawing as large as it fits, centred in a transparent GLYPH x GLYPH square."""
    scale = GLYPH / max(ink.size)
    size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
    ink = ink.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (GLYPH, GLYPH), (0, 0, 0, 0))
    square.paste(ink, ((GLYPH - size[0]) // 2, (GLYPH - size[1]) // 2))
    return square
