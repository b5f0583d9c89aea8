"""Reading a folder of images as the model sees them: square, in [-1, 1]."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from evoken.annotations import (
    NONE,
    Annotations,
    check_mask_names,
    is_file,
    is_mask,
    mask_beside,
    masks_of,
    read_caption,
    read_mask,
    stray_captions,
    together,
)
from evoken.arrays import Images, Masks, PathLike
from evoken.decoding import decode_with_alpha, read
from evoken.errors import ImageError, reason_of, shown

# What a file of a folder ends in to be taken for a picture.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".avifs"),
    *(".heic", ".heif", ".hif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".tga", ".ico"),
    *(".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".pcx", ".qoi"),
)
BESIDE = (  # what lies beside pictures, and is no picture that somebody may miss
    *(".txt", ".caption", ".json", ".jsonl", ".csv", ".toml", ".yaml", ".yml", ".md"),
    *(".npz", ".safetensors", ".xmp", ".aae", ".db", ".ini"),  # caches, edits, Thumbs.db
)
CHECKED = 64  # px; where pictures are read only to see whether they can be
BLANK = 3 / 127.5  # in [-1, 1]; less between the pixels of a picture is one colour


@dataclass(frozen=True)
class ImageSet:
    """The images of a concept, N x 3 x S x S, with the names and hashes of their files, and what
    lies beside them.
    """

    images: Images
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    ignored: tuple[str, ...] = ()  # files in the folder that do not look like images
    folder: Path | None = (
        None  # the folder in the one that was named, where the images are; mostly none
    )
    sizes: tuple[tuple[int, int], ...] = ()  # width and height in pixels, upright, before the crop
    annotations: Annotations = NONE
    files: tuple[Path, ...] = ()
    others: tuple[str, ...] = ()  # folders in the folder that have images, too, and are not read
    stray: tuple[str, ...] = ()  # files that may be taken for captions, and are not read

    @property
    def blank(self) -> tuple[str, ...]:
        """The names of those that show one colour and nothing else."""
        spread = (self.images.amax((2, 3)) - self.images.amin((2, 3))).amax(1)
        return tuple(n for n, s in zip(self.names, spread.tolist(), strict=True) if s < BLANK)

    def rows(self, places: Sequence[int]) -> "ImageSet":
        """Some of them, in this order, any of them several times; without annotations."""
        return replace(
            self,
            images=self.images[list(places)],
            names=tuple(self.names[i] for i in places),
            hashes=tuple(self.hashes[i] for i in places),
            sizes=tuple(self.sizes[i] for i in places),
            annotations=NONE,
            files=tuple(self.files[i] for i in places),
        )

    def notes(self, most_cut: float = 0.0) -> list[str]:
        """What people should know of their pictures: which others are not read, which are the same,
        and which of them lose more than the share ``most_cut`` to the crop.
        """
        alike: dict[bytes, dict[str, None]] = {}
        for name, image in zip(self.names, self.images, strict=True):
            key = hashlib.sha256(image.numpy().tobytes()).digest()
            alike.setdefault(key, {})[name] = None
        same = [listing(names, "and") for names in alike.values() if len(names) > 1]
        said = notes_of_place(self)
        said += [f"Note: {names} are the same picture." for names in same]
        if self.stray:
            what = "is" if len(self.stray) == 1 else "are"
            said.append(
                f"Note: {listing(self.stray, 'and')} {what} not read: a picture has one caption, "
                "beside it and with its name, such as cat.txt beside cat.png."
            )
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


def square(
    image: Image.Image, size: int, resampling: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """The middle square, resized to size x size."""
    return ImageOps.fit(image, (size, size), resampling)


def load_images(
    path: PathLike,
    size: int,
    masks: bool = True,
    captions: bool = True,
    fit: Callable[[Image.Image, int], Image.Image] = square,
) -> ImageSet:
    """Read one image file, or every image of a folder in order of file name.

    Files without the suffix of an image are skipped and listed in ``ignored``, but for hidden ones
    and for what usually lies beside images, such as captions. A folder may hold its images in one
    folder of its own, as trainers lay them out. Each image is turned
    upright (EXIF), cropped to its central square and resized; what is transparent is put on white,
    grey or black, whichever differs most from what is visible.

    Args:
        size: side of the result in pixels.
        masks: read the mask of each image, cat.mask.png or cat-masklabel.png beside cat.png; of
            an image without such a file, what is not transparent is its mask.
        captions: read the caption of each image, cat.txt beside cat.png.
        fit: makes a picture of that side out of one of any shape.

    Raises:
        ImageError: the path does not exist, holds no images, or an image, a mask or a caption
            cannot be used.
    """
    found = find(Path(path))
    chosen = found.images
    if masks:
        check_mask_names(chosen)
    contents = [read(p) for p in chosen]
    sizes, tensors, their_masks = [], [], []
    for content, file in zip(contents, chosen, strict=True):
        picture, alpha = decode_with_alpha(content, file)
        sizes.append(picture.size)
        tensors.append(to_tensor(fit(picture, size)))
        their_masks.append(_mask(file, picture, alpha, size) if masks else None)
    return ImageSet(
        torch.cat(tensors),
        tuple(p.name for p in chosen),
        tuple(hashlib.sha256(c).hexdigest() for c in contents),
        found.ignored,
        found.folder,
        tuple(sizes),
        together(their_masks, [read_caption(p) if captions else "" for p in chosen]),
        tuple(chosen),
        found.others,
        found.stray if captions else (),
    )


def _mask(file: Path, picture: Image.Image, alpha: Image.Image | None, size: int) -> Masks | None:
    """1 x 1 x S x S: the mask beside a picture, or else its alpha channel; None where all of the
    picture counts, or nothing of it can be seen.
    """
    beside = mask_beside(file)
    mask = read_mask(beside, file, picture.size) if beside else alpha
    if mask is None:
        return None
    levels = mask_levels(square(mask, size, Image.Resampling.BOX))  # without overshoots at edges
    if beside and not levels.any():
        raise ImageError(
            f"nothing of the mask {shown(beside)} is left when the picture is cut to its middle "
            "square.",
            "Cut the picture yourself, or learn without masks (`masks`).",
        )
    return levels if levels.any() and levels.min() < 1 else None


def mask_levels(mask: Image.Image) -> Masks:
    """Levels of grey, 0 to 255, to 1 x 1 x H x W in [0, 1]."""
    return torch.from_numpy(np.asarray(mask).copy())[None, None].float() / 255


@dataclass(frozen=True)
class Found:
    """The image files of a folder in order of their names; the rest as in ``ImageSet``."""

    images: list[Path]
    ignored: tuple[str, ...] = ()
    folder: Path | None = None
    others: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()


def name_of_pictures(path: Path) -> str:
    """The name of a folder, or of a picture without its ending; "" of the root of the disk."""
    place = Path(os.path.realpath(path))  # which a link to itself does not stop
    return place.name if place.is_dir() else place.stem


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
            others = tuple(p.name for p in folders if _may_have_images(p))
            return replace(_among(files, here), others=others)
        within = [folder for folder in folders if _images(_contents(folder)[0])]
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "it does not exist" if missing else reason_of(error)
        forbidden = isinstance(error, PermissionError)
        raise ImageError(
            f"could not read pictures from {shown(path)}: {reason}.",
            "Check the permissions there." if forbidden else "Check the spelling of the path.",
        ) from error
    if len(within) == 1:
        inner = find(within[0])
        above, name = _among(files, []), name_of_pictures(path)
        return replace(
            inner,
            ignored=(*inner.ignored, *(f"{name}/{of}" for of in above.ignored)),
            folder=within[0],
            stray=(*inner.stray, *(f"{name}/{of}" for of in above.stray)),
        )
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


def _among(files: list[Path], images: list[Path]) -> Found:
    """The images among the files of a folder, and which of the others are not read."""
    stems = {p.stem for p in images}
    known = {*images, *masks_of(stems, files).values()}
    beside = (p.name for p in files if p not in known and p.suffix.lower() not in BESIDE)
    stray = (p.name for p in stray_captions(stems, files))
    return Found(images, tuple(beside), stray=tuple(stray))


def _contents(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files and folders in a folder that are not hidden, by name."""
    shows = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    return [p for p in shows if is_file(p)], [p for p in shows if p.is_dir()]


def _images(files: list[Path]) -> list[Path]:
    found = [p for p in files if p.suffix.lower() in SUFFIXES]
    stems = {p.stem for p in found}
    return [p for p in found if not is_mask(p, stems)]


def _may_have_images(folder: Path) -> bool:
    """Whether there are some, as far as it can be read."""
    try:
        return bool(_images(_contents(folder)[0]))
    except OSError:
        return False


def notes_of_place(found: Found | ImageSet) -> list[str]:
    """What people should know of where their pictures are, and of what else is there."""
    said = []
    if found.folder:
        said.append(f"Taking the pictures from {shown(found.folder)}.")
    if found.ignored:
        said.append(f"Skipped {listing(found.ignored, 'and')}: not images by their names.")
    if found.others:
        what = "folder {} in it has" if len(found.others) == 1 else "folders {} in it have"
        others = what.format(listing(found.others, "and"))
        said.append(f"Note: the {others} pictures, too, which are not read.")
    return said


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


def to_tensor(image: Image.Image | np.ndarray) -> Images:
    """RGB picture, or H x W x C levels of 255, to 1 x C x H x W in [-1, 1]."""
    pixels = torch.from_numpy(np.asarray(image).copy())
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def to_pictures(images: Images) -> list[Image.Image]:
    """N x 3 x H x W in [-1, 1] to RGB pictures."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    return [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pixels]


def to_mask(mask: Masks) -> Image.Image:
    """1 x H x W in [0, 1] to levels of grey."""
    return Image.fromarray((mask[0] * 255).round().to(torch.uint8).numpy())


def png(picture: Image.Image, exif: bytes = b"", profile: bytes = b"") -> bytes:
    """The picture as a PNG file's content, with what a camera wrote and a colour profile."""
    buffer = io.BytesIO()
    about = {"exif": exif} if exif else {}
    picture.save(buffer, "PNG", icc_profile=profile or None, **about)
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
