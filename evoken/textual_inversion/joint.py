"""One word for several models that read it with the same text encoder."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch

from evoken.arrays import Images, Losses, Vectors
from evoken.errors import SettingError, shown
from evoken.evaluation.chunks import Chunk, Evaluation, Objective
from evoken.models.base import Model
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_model

COMPARED = 1_000  # embeddings of a vocabulary


class JointLoss(Objective):
    """The mean of the losses of one word on several models. Each takes all of the draws, so a
    generation costs as many times as much.
    """

    def __init__(self, losses: Sequence[Objective]) -> None:
        """
        Args:
            losses: of each model.
        """
        self._losses = losses
        self.setup_calls = sum(loss.setup_calls for loss in losses)

    def split(self, candidates: int, generation: int, gram: bool = False) -> list[Chunk]:
        found = (loss.split(candidates, generation, gram) for loss in self._losses)
        return [replace(chunk, model=i) for i, its in enumerate(found) for chunk in its]

    def split_validation(self) -> list[Chunk]:
        found = (loss.split_validation() for loss in self._losses)
        return [replace(chunk, model=i) for i, its in enumerate(found) for chunk in its]

    def calls(self, candidates: int) -> int:
        return sum(loss.calls(candidates) for loss in self._losses)

    @property
    def validation_calls(self) -> int:
        return sum(loss.validation_calls for loss in self._losses)

    def validation_losses(self, vectors: Vectors) -> Losses:
        return np.concatenate([loss.validation_losses(vectors) for loss in self._losses])

    def part(self, vectors: Vectors, chunk: Chunk) -> Evaluation:
        (found,) = self.parts(vectors, [chunk])
        return found

    def parts(self, vectors: Vectors, chunks: Sequence[Chunk]) -> Iterator[Evaluation]:
        share = 1 / len(self._losses)
        for model, its in groupby(chunks, lambda chunk: chunk.model):
            for found in self._losses[model].parts(vectors, list(its)):
                gram = None if found.gram is None else found.gram * share
                yield replace(found, losses=found.losses * share, gram=gram)


def beside(model: Model, name: str) -> LatentModel:
    """Another model that reads words as this one does, where and how this one runs.

    Raises:
        SettingError: its text encoders are others.
        ModelError: it cannot be loaded, or is distilled.
    """
    encoders = "" if len(model.encoders) == 1 else model.spec.encoders
    other = load_model(replace(model.spec, name=name, encoders=encoders, config=""), learning=True)
    if not _read_alike(model, other):
        raise SettingError(
            f"`also` must be a model with the text encoder of {shown(model.spec.name)} "
            f"({', '.join(model.encoders)}), with the same weights (got {shown(name)}).",
            "Choose such a model, or leave it out.",
        )
    return other


def _read_alike(model: Model, other: Model) -> bool:
    """Whether a vector means the same to both, by their vocabularies."""
    if dict(model.encoders) != dict(other.encoders):
        return False
    its, others = model.vocabulary(), other.vocabulary()
    if its.words != others.words or its.parts != others.parts:
        return False
    return torch.equal(its.vectors[:COMPARED], others.vectors[:COMPARED])


def resized(images: Images, size: int) -> Images:
    """Images or masks, N x C x S x S, at the size of another model."""
    if images.shape[-1] == size:
        return images
    how = {"mode": "bicubic", "align_corners": False, "antialias": True}
    found = torch.nn.functional.interpolate(images, (size, size), **how)  # type: ignore[arg-type]
    return found.clamp(float(images.min()), float(images.max()))
