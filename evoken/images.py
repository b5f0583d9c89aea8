"""Reading a folder of images: every common kind of file, checked, upright, square, in [-1, 1]."""

import hashlib
import io
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from evoken.arrays import Images, PathLike
from evoken.errors import ImageError, reason_of, shown

# What a file of a folder ends in to be taken for a picture, and what a picture may be by its
# content. Others that Pillow knows need programs of their own (EPS) or hold no photographs.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".avifs"),
    *(".heic", ".heif", ".hif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".tga", ".ico"),
    *(".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".pcx", ".qoi"),
)
FORMATS = (
    *("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF", "ICO"),
    *("JPEG2000", "PPM", "PCX", "QOI", "TGA"),  # TGA last: it has no mark to know it by
)
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
BESIDE = (  # what lies beside pictures, and is no picture that somebody may miss
    *(".txt", ".caption", ".json", ".jsonl", ".csv", ".toml", ".yaml", ".yml", ".md"),
    *(".npz", ".safetensors", ".xmp", ".aae", ".db", ".ini"),  # caches, edits, Thumbs.db
)
MIN_SIDE = 16
MAX_PIXELS = 120_000_000  # about 11,000 x 11,000; decoded once, at most 0.5 GB
CHECKED = 64  # px; where pictures are read only to see whether they can be
GROUNDS = (255, 128, 0)  # white, grey and black, for what is transparent
APART = 64  # levels of 255, in the root mean square of the channels: colours that differ plainly
BLANK = 3 / 127.5  # in [-1, 1]; less between the pixels of a picture is one colour
DARK = 16  # of a picture that is darker than a 16th of white, the brightest value becomes white


@dataclass(frozen=True)
class ImageSet:
    """The images of a concept, N x 3 x S x S, with the names and hashes of their files."""

    images: Images
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    ignored: tuple[str, ...] = ()  # files in the folder that do not look like images
    folder: Path | None = (
        None  # the folder in the one that was named, where the images are; mostly none
    )
    sizes: tuple[tuple[int, int], ...] = ()  # width and height in pixels, upright, before the crop

    @property
    def blank(self) -> tuple[str, ...]:
        """The names of those that show one colour and nothing else."""
        spread = (self.images.amax((2, 3)) - self.images.amin((2, 3))).amax(1)
        return tuple(n for n, s in zip(self.names, spread.tolist(), strict=True) if s < BLANK)

    def notes(self, most_cut: float = 0.0) -> list[str]:
        """What people should know of their pictures: which are the same, and which of them lose
        more than the share ``most_cut`` to the crop.
        """
        alike: dict[bytes, dict[str, None]] = {}
        for name, image in zip(self.names, self.images, strict=True):
            key = hashlib.sha256(image.numpy().tobytes()).digest()
            alike.setdefault(key, {})[name] = None
        same = [listing(names, "and") for names in alike.values() if len(names) > 1]
        said = [f"Note: {names} are the same picture." for names in same]
        cuts = []
        for name, (width, height) in zip(self.names, self.sizes, strict=False):
            cut = 1 - min(width, height) / max(width, height)
            if cut > most_cut and cut >= 0.005:
                sides = "left and right" if width > height else "above and below"
                cuts.append(f"{shown(name)} loses {100 * cut:.0f} % ({sides})")
        if cuts:
            lost = _few(dict.fromkeys(cuts))
            said.append(f"Note: pictures are cut to their middle square: {', '.join(lost)}.")
        return said


def load_images(path: PathLike, size: int) -> ImageSet:
    """Read one image file, or every image of a folder in order of file name.

    Files without the suffix of an image are skipped and listed in ``ignored``, but for hidden ones
    and for what usually lies beside images, such as captions. A folder may hold its images in one
    folder of its own, as trainers lay them out. Each image is turned
    upright (EXIF), cropped to its central square and resized; what is transparent is put on white,
    grey or black, whichever differs most from what is visible.

    Args:
        size: side of the result in pixels.

    Raises:
        ImageError: the path does not exist, holds no images, or an image cannot be used.
    """
    found = find(Path(path))
    chosen = found.images
    contents = [read(p) for p in chosen]
    sizes, tensors = [], []
    for content, file in zip(contents, chosen, strict=True):
        picture = decode(content, file)
        sizes.append(picture.size)
        tensors.append(to_tensor(square(picture, size)))
    return ImageSet(
        torch.cat(tensors),
        tuple(p.name for p in chosen),
        tuple(hashlib.sha256(c).hexdigest() for c in contents),
        found.ignored,
        found.folder,
        tuple(sizes),
    )


@dataclass(frozen=True)
class Found:
    """The image files of a folder in order of their names; the rest as in ``ImageSet``."""

    images: list[Path]
    ignored: tuple[str, ...] = ()
    folder: Path | None = None


def find(path: Path) -> Found:
    """The images of a folder, or of the one folder in it that has some; a file whatever its name.

    Raises:
        ImageError: there is nothing, or several folders have images.
    """
    try:
        if path.is_file():
            return Found([path])
        files, folders = _contents(path)
        if here := _images(files):
            beside = (p for p in files if p not in here and p.suffix.lower() not in BESIDE)
            return Found(here, tuple(p.name for p in beside))
        within = [folder for folder in folders if _images(_contents(folder)[0])]
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "it does not exist" if missing else reason_of(error)
        raise ImageError(
            f"could not read pictures from {shown(path)}: {reason}.",
            "Check the spelling of the path.",
        ) from error
    if len(within) == 1:
        inner = find(within[0])
        return Found(inner.images, inner.ignored, within[0])
    if within:
        raise ImageError(
            f"{shown(path)} has pictures in more than one folder: "
            f"{listing((p.name for p in within), 'and')}.",
            "Choose one of them.",
        )
    names = f"no name in it ends as those of pictures do ({', '.join(SUFFIXES[:6])} and so on)"
    raise ImageError(
        f"found no image in {shown(path)}: {names if files or folders else 'it is an empty folder'}"
        ".",
        "Put some pictures there; to learn a word, three to five of one object or one style.",
    )


def _contents(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files and folders in a folder that are not hidden, by name."""
    shows = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    return [p for p in shows if p.is_file()], [p for p in shows if p.is_dir()]


def _images(files: list[Path]) -> list[Path]:
    return [p for p in files if p.suffix.lower() in SUFFIXES]


def read(path: Path) -> bytes:
    """A file's content; raises ``ImageError`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"could not read {shown(path)}: {reason_of(error)}.", "Check its permissions."
        ) from error


def decode(content: bytes, path: Path) -> Image.Image:
    """One image file as upright RGB; of an animation, its first picture.

    Raises:
        ImageError: not an image, truncated, under 16 px or over 120 megapixels.
    """
    try:
        try:
            image, tops = _opened(content, path)
        except ValueError:  # a limit of Pillow's: programs write their workflows into PNGs
            image, tops = _opened(_without_texts(content), path)
        image = ImageOps.exif_transpose(image)
    except Image.DecompressionBombError:
        raise ImageError(
            f"{shown(path)} has far more than {MAX_PIXELS // 10**6} megapixels, the most allowed.",
            "Make it smaller first.",
        ) from None
    except UnidentifiedImageError:
        raise _not_read(content, path) from None
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ImageError(
            f"{shown(path)} is damaged ({reason_of(error)}).", "Copy the file again, or remove it."
        ) from None
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image, tops, path)
    return _rgb(image)


def _opened(content: bytes, path: Path) -> tuple[Image.Image, tuple[int, ...]]:
    """A picture with its pixels, and the numbers that may be white in it (see ``_tops``)."""
    formats: tuple[str, ...] = FORMATS
    if content[4:8] == b"ftyp" and content[8:12] in HEIC:
        formats = (*FORMATS, *_heic())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
    _check_size(image, path)
    tops = _tops(image)
    image.load()
    return image, tops


def _heic() -> tuple[str, ...]:
    """The format that reads HEIC, where its package is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return ()
    register_heif_opener()
    return ("HEIF",)


def _not_read(content: bytes, path: Path) -> ImageError:
    """The error for a file that no reader takes."""
    if content[4:8] == b"ftyp" and content[8:12] in HEIC:
        if _heic():
            return ImageError(f"{shown(path)} is damaged.", "Copy the file again, or remove it.")
        return ImageError(
            f"{shown(path)} is a HEIC picture, which this installation cannot read.",
            "Save it again as JPEG, or type: pip install 'evoken[heic]'",
        )
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return ImageError(
            f"{shown(path)} is a TIFF of a kind that cannot be read.", "Save it again as PNG."
        )
    return ImageError(f"{shown(path)} is not an image.", "Remove it, or save it again as PNG.")


def _without_texts(content: bytes) -> bytes:
    """A PNG without its texts and colour profile; anything else, and what is cut off, as it is."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    kept, at = [content[:8]], 8
    while at + 8 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(content[at:end])
        at = end
    return b"".join([*kept, content[at:]])


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{shown(path)} must have at least {MIN_SIDE} x {MIN_SIDE} pixels (got {width} x "
            f"{height}).",
            "Use a larger picture.",
        )
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{shown(path)} must have at most {MAX_PIXELS // 10**6} megapixels (got {width} x "
            f"{height} pixels).",
            "Make it smaller first.",
        )


def _tops(image: Image.Image) -> tuple[int, ...]:
    """The numbers that may be white in a picture of one channel, by how it was written, from the
    least: what 8, 16 and 32 bits hold, with or without a sign; for floats 1, too.
    """
    if image.mode == "F":
        return (1, 2**8 - 1, 2**16 - 1)
    bits, signed = 32, True
    if isinstance(image, TiffImageFile):
        bits, signed = image.tag_v2.get(258, (1,))[0], image.tag_v2.get(339, (1,))[0] == 2
    most = 2 ** (bits - signed) - 1
    return tuple(sorted({most, *(top for top in (2**8 - 1, 2**16 - 1) if top < most)}))


def _eight_bits(image: Image.Image, tops: tuple[int, ...], path: Path) -> Image.Image:
    """One channel of whole numbers or floats to levels up to 255.

    White is the first of ``tops`` that is not exceeded, or the brightest value of a picture that
    exceeds all or would be all but black.

    Raises:
        ImageError: there are values that are no brightness.
    """
    raw = np.asarray(image)
    if tops[-1] == 2**32 - 1 and raw.dtype == np.int32:  # Pillow reads them as if they had a sign
        raw = raw.view(np.uint32)
    values = raw.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all():
        raise ImageError(
            f"{shown(path)} has pixels that are no number.", "Save it again as PNG, or remove it."
        )
    if low < -0.1 * max(high, 0):  # a little less than nothing comes from resizing
        raise ImageError(
            f"{shown(path)} must have no negative brightness (got {low:g} to {high:g}).",
            "Save it again as PNG, or remove it.",
        )
    top = next((float(t) for t in tops if high <= t), high)
    white = high if high * DARK < top else top
    return Image.fromarray((values.clip(0) / (white or 1) * 255).round().astype(np.uint8))


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode of 8 bits to RGB, on a ground that differs from what is visible."""
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*[_ground(image)] * 3, 255))
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB")


def _ground(image: Image.Image) -> int:
    """The level of grey that most of what is visible in an RGBA picture differs from; white where
    that is no worse.
    """
    small = image.reduce(max(1, max(image.size) // 512))
    pixels = np.asarray(small).reshape(-1, 4).astype(np.float64)
    colours, weights = pixels[:, :3], pixels[:, 3]
    if not weights.any():
        return GROUNDS[0]

    def apart(ground: int) -> float:
        distances = np.sqrt(((colours - ground) ** 2).mean(1)).clip(max=APART)
        return round(float(distances @ weights / weights.sum() / APART), 2)

    return max(GROUNDS, key=apart)  # the first of equals


def square(image: Image.Image, size: int) -> Image.Image:
    """The middle square, resized to size x size."""
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def listing(names: Iterable[str], last: str) -> str:
    """Names of a user's for a sentence: ``'a', 'b' and 'c'``, and no more than six."""
    *most, final = _few([shown(name) for name in names])
    return f"{', '.join(most)} {last} {final}" if most else final


def _few(texts: Iterable[str], most: int = 6) -> list[str]:
    """The first texts, and how many more there are."""
    texts = list(texts)
    more = len(texts) - most
    return texts if more <= 0 else [*texts[:most], f"{more} more"]


def counted(count: int) -> str:
    """The number of pictures in words: "1 picture", "4 pictures"."""
    return f"{count} picture" if count == 1 else f"{count} pictures"


def to_tensor(image: Image.Image) -> Images:
    """RGB picture to 1 x 3 x H x W in [-1, 1]."""
    pixels = torch.from_numpy(np.asarray(image).copy())
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def to_pictures(images: Images) -> list[Image.Image]:
    """N x 3 x H x W in [-1, 1] to RGB pictures."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pixels]


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file's content."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def grid(pictures: list[Image.Image], columns: int, gap: int = 2, scale: int = 1) -> Image.Image:
    """Pictures of one size side by side, row by row, on white; ``scale`` enlarges whole pixels."""
    width, height = (side * scale for side in pictures[0].size)
    rows = -(-len(pictures) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    for i, picture in enumerate(pictures):
        enlarged = picture.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (i % columns * (width + gap), i // columns * (height + gap)))
    return sheet
