"""What people drop on the page: kept within bounds, and without what a camera writes beside it."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms
from starlette.requests import Request

from evoken.annotations import CAPTIONS, MASKS, is_mask, read_caption
from evoken.decoding import decode_mask, decode_whole
from evoken.errors import ImageError, shown
from evoken.files import write_bytes
from evoken.images import SUFFIXES

MOST_FILES, MOST_FIELDS = 40, 500
MOST_WIDE = 2048  # px; the largest that a model is asked for
MOST_CAPTION = 10_000  # bytes
SRGB = ImageCms.createProfile("sRGB")
# As people call them; more than ``MASKS``, where the picture is beside it.
MASK = re.compile(r"[._-](mask|masklabel)$", re.IGNORECASE)
Files = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Posted:
    """What a form held: all texts of a field, and all files by name."""

    texts: dict[str, list[str]]
    uploads: dict[str, list[tuple[str, bytes]]]

    @property
    def answers(self) -> dict[str, str]:
        """The last text of each field."""
        return {name: texts[-1] for name, texts in self.texts.items()}

    def chosen(self, name: str) -> list[str]:
        """The boxes of a field that were ticked."""
        return self.texts.get(name, [])

    def files(self, name: str) -> list[tuple[str, bytes]]:
        """The files of a field."""
        return self.uploads.get(name, [])


async def posted(request: Request) -> Posted:
    """Read a form, within bounds."""
    found = Posted({}, {})
    limits: dict[str, Any] = {"max_files": MOST_FIELDS, "max_fields": MOST_FIELDS}
    async with request.form(**limits) as form:
        for name, value in form.multi_items():
            if isinstance(value, str):
                found.texts.setdefault(name, []).append(value)
            elif value.filename:
                one = (value.filename, await value.read())
                found.uploads.setdefault(name, []).append(one)
    return found


def safe_name(name: str) -> str:
    """A file's name without folders, and without letters that mean something to a system."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    plain = "".join(c if c.isalnum() or c in "._- " else "_" for c in last).strip(". ")
    stem, dot, suffix = plain.rpartition(".")
    stem, suffix = (stem, suffix) if stem else (plain, "")
    mask = found[0] if (found := MASK.search(stem)) else ""  # it stays one, however long the name
    stem = stem.removesuffix(mask)[:60] or "file"
    return f"{stem}{mask}{dot if suffix else ''}{suffix[:12]}"


def caption_of(picture: Path) -> str:
    """The caption of a picture; "" also for a file that is no text, as `evoken learn` says."""
    try:
        return read_caption(picture)
    except ImageError:
        return ""


def keep_caption(picture: Path, text: str) -> bool:
    """Put a caption in place of the one that a picture has, or of none; returns whether it is
    another one. Without text there is none afterwards.
    """
    text = " ".join(text.split())
    if text == caption_of(picture):
        return False
    for file in picture.parent.iterdir():
        if file.stem == picture.stem and file.suffix.lower() in CAPTIONS:
            file.unlink()
    if text:
        write_bytes(picture.with_suffix(CAPTIONS[0]), f"{text}\n".encode())
    return True


def keep_pictures(files: Files, folder: Path, hint: str, masks: bool | None = None) -> list[str]:
    """Write pictures, their masks and their captions into a new folder; returns the names of those
    that are none of these. Pictures become PNGs, upright, no wider than ``MOST_WIDE``, and masks
    are called as ``evoken.annotations`` knows them.

    Args:
        hint: what to do where there is no picture.
        masks: whether all are masks, of which levels of grey are kept, or none is; by default
            their names tell.

    Raises:
        ImageError: there are no pictures, too many files, or one that cannot be used.
    """
    if len(files) > MOST_FILES:
        raise ImageError(
            f"there are {len(files)} files, and {MOST_FILES} at most are taken.", "Choose fewer."
        )
    ignored, names = [], [Path(safe_name(given)) for given, _ in files]
    stems = {name.stem for name in names if name.suffix.lower() in SUFFIXES}
    for (given, content), name in zip(files, names, strict=True):
        if name.suffix.lower() in CAPTIONS and len(content) <= MOST_CAPTION:
            _write(folder / name, content, given)
        elif name.suffix.lower() in SUFFIXES:
            beside = masks is None and _is_mask(name, stems)
            picture = _png(_small(_cleaned(content, Path(given), beside or bool(masks))))
            if beside:
                _write(folder / f"{MASK.sub('', name.stem)}{MASKS[0]}", picture, given)
            else:  # cat.jpg and cat.heic are two pictures
                _write(_free(folder / f"{name.stem}.png"), picture, given)
        else:
            ignored.append(given)
    if not any(folder.glob("*.png")):
        raise ImageError("there are no pictures.", hint)
    return ignored


def _is_mask(name: Path, stems: Collection[str]) -> bool:
    """Whether a file is a mask: by a name that nothing else has, or with its picture beside it."""
    own = bool(MASK.search(name.stem)) and MASK.sub("", name.stem) in stems
    return own or is_mask(name.with_suffix(".png"), stems)


def _free(path: Path) -> Path:
    """The path, or one with a number where there is a file already."""
    others = (path.with_stem(f"{path.stem}-{i}") for i in range(2, MOST_FILES + 2))
    return path if not path.exists() else next(p for p in others if not p.exists())


def _cleaned(content: bytes, name: Path, mask: bool = False) -> Image.Image:
    """A picture, in sRGB, or a mask: its pixels and nothing else."""
    if mask:
        return decode_mask(content, name)
    found = decode_whole(content, name)
    picture = found.picture
    if found.profile:
        with suppress(ImageCms.PyCMSError, OSError):  # of a profile that is damaged
            own = ImageCms.ImageCmsProfile(BytesIO(found.profile))
            picture = ImageCms.profileToProfile(picture, own, SRGB) or picture
    if found.own.mode == "RGBA":
        picture.putalpha(found.own.getchannel("A"))
    return picture


def _small(picture: Image.Image) -> Image.Image:
    """No wider and no higher than ``MOST_WIDE``."""
    picture.thumbnail((MOST_WIDE, MOST_WIDE), Image.Resampling.LANCZOS)
    return picture


def _png(picture: Image.Image) -> bytes:
    clean, file = Image.new(picture.mode, picture.size), BytesIO()
    clean.paste(picture)
    clean.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _write(path: Path, content: bytes, given: str) -> None:
    if path.exists():
        raise ImageError(f"there are two files called {shown(given)}.", "Rename one of them.")
    write_bytes(path, content)


def as_seen(content: bytes, name: Path) -> bytes:
    """A picture to give out: as it is, if there is nothing in it but pixels."""
    with Image.open(BytesIO(content)) as picture:
        if not picture.info and not picture.getexif():
            return content
    return _png(_cleaned(content, name))
