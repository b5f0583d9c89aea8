"""One word for several models that read it with the same text encoder."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from evoken.arrays import Images, Losses, Vectors
from evoken.errors import SettingError, shown
from evoken.evaluation.chunks import Chunk, Evaluation, Objective
from evoken.models.base import Model, Vocabulary
from evoken.models.families.latent import LatentModel
from evoken.models.load import check_place, load_model

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
        self.models = [model for loss in losses for model in loss.models]

    def split(self, candidates: int, generation: int, gram: bool = False) -> list[Chunk]:
        return _numbered(loss.split(candidates, generation, gram) for loss in self._losses)

    def split_validation(self) -> list[Chunk]:
        return _numbered(loss.split_validation() for loss in self._losses)

    def calls(self, candidates: int) -> int:
        return sum(loss.calls(candidates) for loss in self._losses)

    @property
    def validation_calls(self) -> int:
        return sum(loss.validation_calls for loss in self._losses)

    def validation_losses(self, vectors: Vectors) -> Losses:
        # Of one draw they go together: as draws of their own they would look twice as sure.
        found: Losses = np.mean([loss.validation_losses(vectors) for loss in self._losses], 0)
        return found

    def part(self, vectors: Vectors, chunk: Chunk) -> Evaluation:
        (found,) = self.parts(vectors, [chunk])
        return found

    def parts(self, vectors: Vectors, chunks: Sequence[Chunk]) -> Iterator[Evaluation]:
        share = 1 / len(self._losses)
        for model, its in groupby(chunks, lambda chunk: chunk.model):
            for found in self._losses[model].parts(vectors, list(its)):
                gram = None if found.gram is None else found.gram * share
                yield replace(found, losses=found.losses * share, gram=gram)


def _numbered(found: Iterable[Sequence[Chunk]]) -> list[Chunk]:
    """The chunks of each model, with its number."""
    return [replace(chunk, model=i) for i, its in enumerate(found) for chunk in its]


def check_other(name: str, model: str = "") -> None:
    """Raise ``SettingError`` or ``ModelError`` unless there may be a whole pipeline.

    Args:
        model: the name of the first one, which it must not be.
    """
    if model and os.path.realpath(Path(name).expanduser()) == os.path.realpath(
        Path(model).expanduser()
    ):
        raise SettingError(f"`also` must be another model (got {shown(name)}).", "Leave it out.")
    if Path(name).expanduser().is_file():
        raise SettingError(
            f"`also` must be a whole pipeline (got the file {shown(name)}).",
            "Give its folder or hub id.",
        )
    check_place(name, "also", "a folder")


def beside(model: Model, name: str) -> LatentModel:
    """Another model that reads words as this one does, where and how this one runs.

    Args:
        name: a name of an included model, a folder or a hub id.

    Raises:
        SettingError: it is a file, or its text encoders are others.
        ModelError: it cannot be loaded, or is distilled.
    """
    check_other(name)
    spec, wanted = replace(model.spec, name=name, encoders="", config=""), dict(model.encoders)
    other = load_model(spec, learning=True)
    if other.encoders != wanted and {*wanted} < {*other.texts.encoders}:
        other = load_model(replace(spec, encoders=",".join(wanted)), learning=True)
    if other.encoders != wanted or not _read_alike(model.vocabulary(), other.vocabulary()):
        raise SettingError(
            f"`also` must be a model with the text encoder of {shown(model.spec.name)} "
            f"({', '.join(wanted)}), with the same token embeddings (got {shown(name)}).",
            "Choose such a model, or leave it out.",
        )
    return other


def _read_alike(one: Vocabulary, other: Vocabulary) -> bool:
    """Whether a vector means the same to two text encoders, by their token embeddings: these may
    have been published in other precisions.
    """
    if one.words != other.words or one.parts != other.parts:
        return False
    its, others = one.vectors[:COMPARED], other.vectors[:COMPARED]
    return torch.allclose(its, others, rtol=2**-7, atol=1e-6)


def resized(images: Images, size: int) -> Images:
    """Images or masks, N x C x S x S, at the size of another model."""
    if images.shape[-1] == size:
        return images
    how = {"mode": "bicubic", "align_corners": False, "antialias": True}
    found = torch.nn.functional.interpolate(images, (size, size), **how)  # type: ignore[arg-type]
    return found.clamp(float(images.min()), float(images.max()))
