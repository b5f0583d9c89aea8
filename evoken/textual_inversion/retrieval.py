"""Finding the pictures that show a learned word, in the space of CLIP."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from evoken.decoding import decode, read
from evoken.errors import ImageError, shown
from evoken.files import write_json
from evoken.images import Found, counted, find, square, to_tensor
from evoken.models.clip import BATCH, Clip
from evoken.models.load import default_clip, load_model
from evoken.models.provenance import public_name
from evoken.models.text import TextEncoder
from evoken.pictures.drawing import images_of
from evoken.prompts import KINDS
from evoken.run_folder import name_of
from evoken.spec import ModelSpec
from evoken.textual_inversion.folder import LearnRun
from evoken.words.word import Word

RETRIEVED = "retrieval.json"  # in a run folder


@dataclass(frozen=True)
class Ranking:
    """Pictures by how well they fit a word.

    Attributes:
        images: file names and cosines, the best first; equal ones by name.
        ignored: files with an image's suffix that are damaged or too small.
        place: where they are, and what else is there.
    """

    images: tuple[tuple[str, float], ...]
    ignored: tuple[str, ...]
    place: Found


@torch.no_grad()
def word_feature(clip: Clip, prompt: str, word: Word) -> Tensor:
    """1 x width: CLIP's feature of a prompt with the word's vectors in the placeholder's place.

    The vectors must be of the CLIP's own text encoder, as those for Stable Diffusion 1.x are.
    """
    encoder = TextEncoder(clip.model.text_model, clip.tokenizer, ModelSpec())
    pooled = encoder.encode(
        [prompt], {word.placeholder: word.vectors[None]}, lambda out: out.pooler_output
    )
    return F.normalize(clip.model.text_projection(pooled), dim=-1)


def query_of(run: LearnRun, word: Word, clip: Clip, count: int, seed: int) -> tuple[Tensor, str]:
    """What CLIP makes of a run's word, 1 x width, and how it was come by.

    Args:
        count: pictures to draw of a word that is not in the space of the CLIP's text encoder; their
            mean feature stands for it.
    """
    prompt = KINDS[run.settings.kind].plain.format(word.placeholder)
    width = clip.model.text_model.get_input_embeddings().weight.shape[1]
    # Another CLIP may be as wide and was still trained apart: its words stand elsewhere.
    if word.vectors.shape[1] == width and run.clip == default_clip(run.spec.name):
        return word_feature(clip, prompt, word), f"CLIP's reading of {prompt!r}"
    model = load_model(run.spec)
    pictures = images_of(model, prompt, word, count, seed)
    mean = clip.image_features(pictures).mean(0, keepdim=True)
    return F.normalize(mean, dim=-1), f"{counted(count)} drawn for {prompt!r}"


def pictures_in(folder: Path) -> Found:
    """The pictures of a folder that is to be searched.

    Raises:
        ImageError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ImageError(f"{shown(folder)} is not a folder of pictures.", "Check the path.")
    return find(folder)


def rank(clip: Clip, query: Tensor, folder: Path) -> Ranking:
    """The pictures of a folder by their cosine with a feature, 1 x width.

    Raises:
        ImageError: no such folder, or no image in it that can be read.
    """
    there = pictures_in(folder)
    files, found, ignored = there.images, [], []
    for i in range(0, len(files), BATCH):
        names, tensors = [], []
        for file in files[i : i + BATCH]:
            try:
                picture = square(decode(read(file), file), clip.side)
            except ImageError:
                ignored.append(file.name)
                continue
            names.append(file.name)
            tensors.append(to_tensor(picture))
        if tensors:
            # Not a matrix product: that one rounds by the number of rows.
            cosines = (clip.image_features(torch.cat(tensors)) * query).sum(1)
            found += list(zip(names, cosines.tolist(), strict=True))
    if not found:
        raise ImageError(
            f"found no image in {shown(folder)} that can be read.",
            "Put some pictures there.",
        )
    best_first = sorted(found, key=lambda x: (-x[1], x[0]))
    return Ranking(tuple(best_first), tuple(ignored), there)


def write_retrieval(run: LearnRun, folder: Path, how: str, ranking: Ranking) -> Path:
    """Write ``retrieval.json`` into the run folder; returns its path."""
    path = run.path / RETRIEVED
    images = [{"file": name, "similarity": cosine} for name, cosine in ranking.images]
    about = {"folder": name_of(folder), "clip": public_name(run.clip), "query": how}
    write_json(path, about | {"images": images, "ignored": list(ranking.ignored)})
    return path
