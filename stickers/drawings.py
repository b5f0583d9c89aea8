"""The objects of the sticker world, each drawn by several hands.

A hand is a set of drawings by one designer: SVGs from an npm package in the iconify format. They
are downloaded and rendered once, to one file; making models needs them, using models does not.
"""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save

from evoken.files import write_bytes

CACHE = Path(__file__).parent.parent / "build" / "drawings"
RENDERED = CACHE / "drawings.safetensors"
OBJECTS = Path(__file__).with_name("objects.txt")
INSTALL = "python -m stickers drawings (it needs npm)"
SIDE = 112  # drawings are kept at this square size, cropped to their ink


class Hand(NamedTuple):
    """Who drew: the npm package, what captions call the manner, whether models may see it."""

    package: str
    manner: str
    held_out: bool = False


# In the order of preference where one drawing stands for an object.
HANDS: dict[str, Hand] = {
    "noto": Hand("@iconify-json/noto@1.2.9", "soft"),
    "fluent-emoji-flat": Hand("@iconify-json/fluent-emoji-flat@1.2.6", "flat"),
    "fluent-emoji": Hand("@iconify-json/fluent-emoji@1.2.7", "glossy"),
    "twemoji": Hand("@iconify-json/twemoji@1.2.5", "simple"),
    "emojione": Hand("@iconify-json/emojione@1.2.3", "shaded"),
    "fxemoji": Hand("@iconify-json/fxemoji@1.2.2", "cartoon"),
    "streamline-emojis": Hand("@iconify-json/streamline-emojis@1.2.4", "inked"),
    "flat-color-icons": Hand("@iconify-json/flat-color-icons@1.2.3", "plain"),
    "noto-v1": Hand("@iconify-json/noto-v1@1.2.5", "retro", held_out=True),
}
MANNERS = {name: hand.manner for name, hand in HANDS.items()}

# The packages spell some names as a catalogue would; captions say what people say.
SPOKEN = {
    "alien-monster": "space invader",
    "basketballandhoop": "basketball hoop",
    "biotech": "lab bench",
    "bow": "ribbon bow",
    "camcorder-pro": "camcorder",
    "candle-sticks": "candlestick chart",
    "card-file-box": "card box",
    "carp-streamer": "fish streamer",
    "celticcross": "celtic cross",
    "chess-pawn": "pawn",
    "clamshellmobile": "flip phone",
    "contact2": "contact card",
    "control-knobs": "knobs",
    "curry-rice": "curry",
    "cut-of-meat": "steak",
    "diploma-1": "diploma",
    "ear-of-corn": "corn",
    "face-with-head-bandage": "bandaged face",
    "face-with-medical-mask": "masked face",
    "face-with-monocle": "monocle face",
    "face-with-tongue": "cheeky face",
    "film-reel": "reel of film",
    "fire-engine": "fire truck",
    "fish-cake-with-swirl": "fish cake",
    "flash-on": "lightning bolt",
    "globe-showing-americas": "world globe",
    "hot-beverage": "coffee cup",
    "hourglass-done": "hourglass",
    "ice-cream": "bowl of ice cream",
    "ice-hockey": "hockey stick",
    "ipad": "tablet",
    "iphone": "smartphone",
    "jack-o-lantern": "pumpkin",
    "kindle": "e-reader",
    "lady-beetle": "ladybug",
    "landscape": "landscape picture",
    "leafy-green": "lettuce",
    "library": "library building",
    "magnifying-glass-tilted-left": "magnifying glass",
    "makeupbag": "makeup bag",
    "mans-shoe": "leather shoe",
    "page-facing-up": "sheet of paper",
    "planner": "wall planner",
    "podium-with-speaker": "podium",
    "pool-8-ball": "billiard ball",
    "portablestereo": "stereo",
    "pot-of-food": "stew pot",
    "poultry-leg": "chicken leg",
    "recreationalvehicle": "camper van",
    "red-paper-lantern": "paper lantern",
    "rescue-workers-helmet": "helmet",
    "safe": "steel safe",
    "self-service-kiosk": "kiosk",
    "shallow-pan-of-food": "paella",
    "sheaf-of-rice": "rice plant",
    "shop": "shop front",
    "smiling-face-with-halo": "angel face",
    "smiling-face-with-heart-eyes": "lovestruck face",
    "snow-capped-mountain": "snowy mountain",
    "soft-ice-cream": "ice cream",
    "speaker-high-volume": "speaker",
    "spouting-whale": "whale",
    "sun-with-face": "sun",
    "sun": "plain sun",
    "spiral-calendar": "calendar",
    "t-rex": "t-rex",
    "t-shirt": "t-shirt",
    "thong-sandal": "sandal",
    "touchscreen-smartphone": "touch screen",
    "vertical-traffic-light": "traffic light",
    "video-projector": "projector",
    "vlc": "traffic cone",
    "whale": "blue whale",
    "womans-boot": "boot",
    "womans-clothes": "blouse",
    "womans-hat": "sun hat",
    "womans-sandal": "heeled sandal",
    "x-ray": "x-ray",
    "yo-yo": "yo-yo",
}
# Animals of which there is a head and a whole body: the head has the plain name.
FACES = ("cat", "cow", "dog", "dragon", "horse", "monkey", "mouse", "pig", "rabbit", "tiger")
SPOKEN |= {f"{name}-face": name for name in FACES} | {name: f"walking {name}" for name in FACES}

# What one hand calls otherwise than the others: (hand, name here) to its own name.
OTHER_NAMES = {
    ("fxemoji", "eggplant"): "aubergine",
    ("fxemoji", "hot-pepper"): "chilipepper",
    ("fxemoji", "ear-of-corn"): "earofmaize",
    ("fxemoji", "sheaf-of-rice"): "earofrice",
    ("fxemoji", "rabbit-face"): "bunny",
    ("fxemoji", "bathtub"): "bath",
    ("fxemoji", "dragon"): "dragonside",
    ("fxemoji", "dragon-face"): "dragonhead",
    ("fxemoji", "dagger"): "daggerknife",
    ("fxemoji", "evergreen-tree"): "evergreen",
    ("fxemoji", "gem-stone"): "gem",
    ("fxemoji", "high-heeled-shoe"): "heels",
    ("fxemoji", "hamster"): "hampster",
    ("fxemoji", "megaphone"): "bullhorn",
    ("fxemoji", "racing-car"): "racecar",
    ("fxemoji", "wrapped-gift"): "present",
    ("fxemoji", "pile-of-poo"): "poo",
    ("fxemoji", "pig-nose"): "pigsnout",
    ("fxemoji", "moai"): "moyai",
    ("fxemoji", "framed-picture"): "framewithpicture",
    ("fxemoji", "flashlight"): "electrictorch",
    ("fxemoji", "mobile-phone"): "cellphone",
    ("fxemoji", "sunglasses"): "darksunglasses",
    ("fxemoji", "castle"): "europeancastle",
    ("fxemoji", "red-paper-lantern"): "izakayalantern",
    ("streamline-emojis", "robot"): "robot-face",
    ("streamline-emojis", "fox"): "fox-face",
}


@dataclass(frozen=True)
class Object:
    """One object of the world: its noun in captions, its name in the packages, its split."""

    noun: str
    name: str
    held_out: bool


@cache
def load_objects() -> tuple[Object, ...]:
    """Every object of ``objects.txt``, in file order."""
    objects = []
    for line in OBJECTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        # A group begins "name: "; its further lines are indented.
        entries = line if line.startswith(" ") else line.partition(":")[2]
        for entry in filter(None, (e.strip() for e in entries.split(","))):
            name = entry.lstrip("*")
            noun = SPOKEN.get(name, name.replace("-", " "))
            objects.append(Object(noun, name, entry.startswith("*")))
    return tuple(objects)


@cache
def drawings() -> dict[str, dict[str, tuple[np.ndarray, ...]]]:
    """By noun and hand, its drawings: uint8 RGBA, SIDE x SIDE x 4, ink centred.

    Raises ``FileNotFoundError`` before ``prepare`` has run.
    """
    if not RENDERED.exists():
        raise FileNotFoundError(f"{RENDERED} is missing; make it with: {INSTALL}")
    nouns = {o.name: o.noun for o in load_objects()}
    found: dict[str, dict[str, list[np.ndarray]]] = {noun: {} for noun in nouns.values()}
    for key, pixels in sorted(load_file(RENDERED).items()):
        name, hand, _ = key.split("/")
        found[nouns[name]].setdefault(hand, []).append(pixels)
    return {
        noun: {hand: tuple(by[hand]) for hand in HANDS if hand in by} for noun, by in found.items()
    }


def prepare(folder: Path = CACHE) -> None:
    """Download the packages and render every drawing of every object, unless that was done."""
    if (folder / RENDERED.name).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rendered = {}
    for hand in HANDS:
        icons = _icons(hand, folder)
        for thing in load_objects():
            for i, name in enumerate(_names(hand, thing.name, icons)):
                rendered[f"{thing.name}/{hand}/{i}"] = _render(icons[name])
    write_bytes(folder / RENDERED.name, save(rendered))
    print(f"{len(rendered):,} drawings in {folder / RENDERED.name}", flush=True)


def _icons(hand: str, folder: Path) -> dict[str, str]:
    """Every drawing of a hand as SVG, by its name and its other names."""
    package = HANDS[hand].package
    path, version = package.rpartition("@")[::2]
    archive = folder / f"{path.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not archive.exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)  # noqa: S603, S607
    with tarfile.open(archive) as packed:
        packed.extract("package/icons.json", folder, filter="data")
    content = json.loads((folder / "package/icons.json").read_text(encoding="utf-8"))
    icons = {}
    for name, icon in content["icons"].items():
        box = (icon.get(side, content.get(side, 16)) for side in ("width", "height"))
        viewed = f"{icon.get('left', 0)} {icon.get('top', 0)} {' '.join(str(v) for v in box)}"
        icons[name] = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{viewed}" '
            f'xmlns:xlink="http://www.w3.org/1999/xlink">{icon["body"]}</svg>'
        )
    for name, alias in content.get("aliases", {}).items():
        if set(alias) == {"parent"} and alias["parent"] in icons:
            icons[name] = icons[alias["parent"]]
    return icons


def _names(hand: str, name: str, icons: Iterable[str]) -> list[str]:
    """The names under which a hand has drawings of an object."""
    own = OTHER_NAMES.get((hand, name), name)
    plain = [own, own.replace("-", ""), *(f"{own}-{i}" for i in range(1, 6))]
    if name in FACES:  # elsewhere this name may stand for the head
        plain = [own]
    return list(dict.fromkeys(n for n in plain if n in icons))


def _render(svg: str) -> np.ndarray:
    """The drawing as RGBA, SIDE x SIDE, its ink as large as it fits."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=2 * SIDE, height=2 * SIDE)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBa")
    ink = image.crop(image.convert("RGBA").getchannel("A").getbbox())
    scale = SIDE / max(ink.size)
    size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
    square = Image.new("RGBa", (SIDE, SIDE), (0, 0, 0, 0))
    corner = ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2)
    square.paste(ink.resize(size, Image.Resampling.LANCZOS), corner)
    return np.asarray(square.convert("RGBA"))
