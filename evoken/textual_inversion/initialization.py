"""Where the search for a word begins (paper 3.4).

All functions return vectors, vector x width, with the vocabulary's typical norm.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from evoken.arrays import Images, Vectors
from evoken.errors import SettingError, WordError, shown
from evoken.models.base import Model, Vocabulary
from evoken.models.clip import Clip
from evoken.options import one_of
from evoken.prompts import KINDS
from evoken.textual_inversion.reading import text_features
from evoken.textual_inversion.settings import INITIALIZATIONS


def similarities(clip: Clip, images: Images, words: Sequence[str], kind: str) -> Tensor:
    """s(c(Y_i), c(X_v)), image x word: cosines of each image and each word in its sentence."""
    return clip.image_features(images) @ text_features(clip, KINDS[kind].sentences(words)).T


def cross_attention(
    clip: Clip, images: Images, vocabulary: Vocabulary, kind: str, temperature: float | None
) -> Vectors:
    """e_0, 1 x width: the vocabulary's embeddings, weighted by how well each word fits the images.

    Source: Fei et al. 2023, Eq. 4.
    Differs: Eq. 4 has no temperature; cosines lie so close together that its weights are all but
    equal and e_0 is the mean of the vocabulary whatever the images are. Similarities are therefore
    divided by ``temperature``; by default the one that CLIP was trained with. A mean of vectors is
    shorter than they are, so the result gets the vocabulary's typical norm. The paper reads each
    token in "a photo of a v" or "a style of v"; here styles are read as they are learned.
    """
    inverse = clip.logit_scale if temperature is None else 1 / temperature
    scores = similarities(clip, images, vocabulary.words, kind) * inverse
    weights = scores.softmax(1).mean(0)
    mean = weights[None] @ vocabulary.vectors  # (Eq. 4)
    return _typical_norm(mean, vocabulary)


def nearest_word(clip: Clip, images: Images, vocabulary: Vocabulary, kind: str) -> Vectors:
    """1 x width: the embedding of the single word that fits the images best."""
    best = similarities(clip, images, vocabulary.words, kind).mean(0).argmax()
    return vocabulary.vectors[best][None].clone()


def random_vectors(vocabulary: Vocabulary, count: int, generator: torch.Generator) -> Vectors:
    """Count x width, drawn from a normal distribution with the vocabulary's mean and variances."""
    mean, std = vocabulary.vectors.mean(0), vocabulary.vectors.std(0)
    return mean + std * torch.randn(count, len(mean), generator=generator)


def _typical_norm(vectors: Vectors, vocabulary: Vocabulary) -> Vectors:
    """Each encoder's part as long as the words of its vocabulary are."""
    widths = list(vocabulary.parts)
    scaled = []
    for part, words in zip(
        vectors.split(widths, 1), vocabulary.vectors.split(widths, 1), strict=True
    ):
        typical = words.norm(dim=1).median()
        scaled.append(part / part.norm(dim=1, keepdim=True).clamp_min(1e-12) * typical)
    return torch.cat(scaled, 1)


def initial_vectors(
    how: str,
    model: Model,
    clip: Clip | None,
    images: Images,
    kind: str,
    count: int,
    generator: torch.Generator,
    word: str = "",
    temperature: float | None = None,
) -> Vectors:
    """Count x width: the vectors that a search starts from.

    Args:
        how: one of INITIALIZATIONS.
        kind: "object" or "style".
        word: the word or phrase for "word"; its tokens are used in turn, the last one repeated.

    Raises:
        SettingError: unknown ``how``, or no CLIP where one is needed.
        WordError: "word" without a word, or with more tokens than vectors.
    """
    vocabulary = model.vocabulary()
    if how == "random":
        return random_vectors(vocabulary, count, generator)
    if how == "word":
        return _from_phrase(model.embed(word), word, count)
    one_of("initialization", how, INITIALIZATIONS)
    if clip is None:
        raise SettingError(
            f"the initialization {how} needs a CLIP model.",
            "Give one with `clip`, or a word to start from with `start`.",
        )
    if how == "nearest":
        start = nearest_word(clip, images, vocabulary, kind)
    else:
        start = cross_attention(clip, images, vocabulary, kind, temperature)
    return start.repeat(count, 1)


def _from_phrase(embedded: Vectors, word: str, count: int) -> Vectors:
    if len(embedded) > count:
        raise WordError(
            f"`start` may have at most {count} tokens, one per vector (got {len(embedded)} in "
            f"{shown(word)}).",
            "Use a shorter word, or raise `vectors`.",
        )
    return torch.cat([embedded, embedded[-1:].expand(count - len(embedded), -1)])
