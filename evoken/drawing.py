"""Pictures of a prompt with a learned word in it, and sheets of them."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image

from evoken.arrays import Images, Vectors
from evoken.files import write_bytes
from evoken.images import grid, png, to_pictures
from evoken.models.base import Model
from evoken.models.sampling import GUIDANCE, STEPS
from evoken.seeds import derive

SHEET_SCALE = 128  # small pictures are enlarged to about this side in sheets


def pictures_of(
    model: Model, prompt: str, placeholder: str, vectors: Vectors | None, count: int, seed: int,
    steps: int = STEPS, guidance: float = GUIDANCE,
) -> Images:  # fmt: skip
    """``count`` pictures of one prompt; picture i has the same noise whatever the prompt is."""
    seeds = [derive(seed, i, "picture") for i in range(count)]
    population = None if vectors is None else vectors[None]
    hidden = model.condition([prompt], placeholder, population).expand(count, -1, -1)
    return model.generate(hidden, seeds, steps, guidance)


def pictures_of_each(
    model: Model, prompt: str, placeholder: str, words: Sequence[Vectors], count: int, seed: int
) -> list[Images]:
    """The pictures of ``pictures_of`` for each of several words, drawn together."""
    seeds = [derive(seed, i, "picture") for i in range(count)]
    hidden = model.condition([prompt], placeholder, torch.stack(list(words)))
    drawn = model.generate(hidden.repeat_interleave(count, 0), seeds * len(words))
    return list(drawn.split(count))


def sheet(pictures: Images, columns: int) -> Image:
    """Pictures side by side, small ones enlarged by whole pixels."""
    return grid(to_pictures(pictures), columns, scale=max(1, SHEET_SCALE // pictures.shape[-1]))


def write_pictures(folder: Path, prompt: str, seed: int, images: Images) -> Path:
    """Write every picture and a sheet of them all under new names; returns the sheet's path."""
    stem = _free_stem(folder, prompt, seed, len(images))
    for i, picture in enumerate(to_pictures(images)):
        write_bytes(folder / f"{stem}-{i:02}.png", png(picture))
    path = folder / f"{stem}.png"
    write_bytes(path, png(sheet(images, min(4, len(images)))))
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
