"""Made-up pictures of many formats, modes and sizes."""

from pathlib import Path

from PIL import Image

from benchmarks.campaign.mutate import Random, pick

FORMATS = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpg": ("L", "RGB", "CMYK"),
    "webp": ("RGB", "RGBA"),
    "gif": ("P", "L"),
    "tif": ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F"),
    "bmp": ("1", "L", "P", "RGB"),
    "tga": ("L", "RGB", "RGBA"),
    "ppm": ("L", "RGB"),
    "pcx": ("L", "RGB"),
    "jp2": ("L", "RGB"),
    "ico": ("RGBA",),
    "avif": ("RGB",),
}
SIDES = (1, 2, 3, 16, 17, 40, 64, 200, 1000)


def make(folder: Path, random: Random) -> tuple[Path, str]:
    """Write a picture of noise; returns its file and what it is."""
    ending = pick(random, list(FORMATS))
    mode = pick(random, FORMATS[ending])
    width, height = pick(random, SIDES), pick(random, SIDES)
    levels = random.integers(0, 256, (height, width, 3), dtype="uint8")
    picture = Image.fromarray(levels)
    if mode == "LA":
        picture = picture.convert("RGBA")
    picture = picture.convert("L") if mode == "I;16" else picture
    exif = Image.Exif()
    if random.random() < 0.2:
        exif[0x0112] = int(random.integers(0, 12))  # how it is turned; 1 to 8 have a meaning
    file = folder / f"made.{ending}"
    try:
        picture.convert(mode).save(file, exif=exif)
    except (OSError, ValueError, KeyError):  # a format that this Pillow does not write so
        picture.convert("RGB").save(folder / "made.png")
        return folder / "made.png", f"RGB {width} x {height}"
    return file, f"{mode} {width} x {height}"
