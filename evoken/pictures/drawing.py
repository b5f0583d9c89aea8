"""Pictures of a prompt with a learned word in it, and sheets of them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch
from PIL.Image import Image

from evoken.arrays import Images, PathLike
from evoken.dialects import warn_of
from evoken.errors import ModelError, SettingError
from evoken.files import write_bytes
from evoken.images import counted, grid, png, to_pictures
from evoken.models.base import Model
from evoken.models.memory import available
from evoken.models.sampling import GUIDANCE, STEPS, check_sampling
from evoken.seeds import derive
from evoken.words.word import Word, as_words, check_length, words_for

SHEET_SCALE = 128  # small pictures are enlarged to about this side in sheets
COLUMNS = 4  # of a sheet
HELD = 12  # bytes for a pixel's value: in single precision, some of them copies, and in a sheet


class Pictures(Sequence[Image]):
    """A sequence of pictures; a notebook shows them side by side.

    Attributes:
        images: N x 3 x S x S in [-1, 1].
        prompt: what they show.
    """

    def __init__(self, images: Images, prompt: str) -> None:
        self.images, self.prompt = images, prompt
        self._pictures = to_pictures(images)

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...

    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        return self._pictures[index]

    def __len__(self) -> int:
        return len(self._pictures)

    def __repr__(self) -> str:
        return f"<{counted(len(self))} of {self.prompt!r}, {self.images.shape[-1]} px>"

    def _repr_png_(self) -> bytes:
        return png(sheet(self.images, COLUMNS))

    def save(self, folder: PathLike, seed: int = 0) -> Path:
        """Write every picture and a sheet of them under new names; returns the sheet's path."""
        return write_pictures(Path(folder), self.prompt, seed, self.images)


def draw(
    model: Model,
    prompt: str,
    word: Word | Sequence[Word] | None = None,
    count: int = 4,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    negative: str = "",
) -> Pictures:
    """Draw pictures of a prompt; picture i has the same noise whatever the prompt is.

    Args:
        word: a learned word in the prompt or the negative prompt, or several.
        steps: sampling steps.
        guidance: classifier-free guidance; 1 means none.
        negative: what the pictures should not show; needs guidance.

    Raises:
        WordError: a word is of another model, is in neither prompt, or has another's placeholder;
            or a prompt is longer than the model reads.
        SettingError: a negative prompt without guidance.
        ModelError: the model gives values that are not finite.

    Warns:
        PromptWarning: a prompt has something in it that other programs read and this one does not.
    """
    warn_of((prompt, negative), as_words(word))
    images = images_of(model, prompt, word, count, seed, steps, guidance, negative)
    return Pictures(images, prompt)


def images_of(
    model: Model,
    prompt: str,
    word: Word | Sequence[Word] | None,
    count: int,
    seed: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    negative: str = "",
) -> Images:
    """The images of ``draw``, count x 3 x S x S."""
    check_sampling(count, steps, guidance)
    _check_memory(model, count)
    seeds = [derive(seed, i, "picture") for i in range(count)]
    words = words_for(model, word, prompt, negative)
    lengths = {name: vectors.shape[1] for name, vectors in words.items()}
    check_length(model, (prompt, negative), lengths)
    if negative and guidance == 1:
        raise SettingError(
            "a `negative` prompt needs `guidance` (got 1, which means none).", "Raise `guidance`."
        )
    other = model.condition_negative([negative], words) if negative else None
    hidden = model.condition([prompt], words)
    images = model.generate(hidden.expand(count, -1, -1), seeds, steps, guidance, other)
    return _finite(model, images)


def _check_memory(model: Model, count: int) -> None:
    """Raise ``SettingError`` if memory does not hold so many pictures, which are drawn together."""
    each, free = HELD * 3 * model.size**2, available(torch.device("cpu"))
    if count > 1 and count * each > free:
        raise SettingError(
            f"`count` must be at most {max(1, free // each):,} here, for memory to hold pictures "
            f"of {model.size} px (got {count:,}).",
            "Draw fewer at a time, with another `seed` each.",
        )


def images_of_each(
    model: Model,
    prompt: str,
    words: Sequence[Word],
    count: int,
    seed: int,
    steps: int = STEPS,
) -> list[Images]:
    """The images of ``draw`` for each of several words with one placeholder, drawn together."""
    seeds = [derive(seed, i, "picture") for i in range(count)]
    population = torch.stack([word.vectors for word in words])
    hidden = model.condition([prompt], {words[0].placeholder: population})
    drawn = model.generate(hidden.repeat_interleave(count, 0), seeds * len(words), steps)
    return list(_finite(model, drawn).split(count))


def _finite(model: Model, images: Images) -> Images:
    """The images, unless there are no numbers in them: those would be written as black."""
    if images.isfinite().all():
        return images
    precision = model.spec.precision
    raise ModelError(
        f"the model gave pictures without finite numbers, computing in {precision}.",
        "Use another copy of the model, or less `guidance`."
        if precision == "float32"
        else "Set `precision` to float32.",
    )


def sheet(pictures: Images, columns: int) -> Image:
    """Pictures side by side, small ones enlarged by whole pixels."""
    return grid(to_pictures(pictures), columns, scale=max(1, SHEET_SCALE // pictures.shape[-1]))


def write_pictures(folder: Path, prompt: str, seed: int, images: Images) -> Path:
    """Write every picture and a sheet of them all under new names; returns the sheet's path."""
    stem = _free_stem(folder, prompt, seed, len(images))
    for i, picture in enumerate(to_pictures(images)):
        write_bytes(folder / f"{stem}-{i:02}.png", png(picture))
    path = folder / f"{stem}.png"
    write_bytes(path, png(sheet(images, min(COLUMNS, len(images)))))
    return path


def _free_stem(folder: Path, prompt: str, seed: int, count: int) -> str:
    """A file name made of the prompt that neither a sheet nor a picture of it has yet."""
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "picture"
    stem, number = f"{slug}-{seed}", 1
    ends = ("", *(f"-{i:02}" for i in range(count)))
    while any((folder / f"{stem}{end}.png").exists() for end in ends):
        number += 1
        stem = f"{slug}-{seed}-{number}"
    return stem
