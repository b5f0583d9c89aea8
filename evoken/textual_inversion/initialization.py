"""Where the search for a word begins (paper 3.4).

Vectors are vector x width.
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
from evoken.textual_inversion.settings import INITIALIZATIONS, LearnSettings
from evoken.words.word import Word, fitted, load_word

NEAREST = 30  # words that are tried as starts


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
    return typical_norm(mean, vocabulary)


def nearest_word(clip: Clip, images: Images, vocabulary: Vocabulary, kind: str) -> Vectors:
    """1 x width: the embedding of the single word that fits the images best."""
    best = similarities(clip, images, vocabulary.words, kind).mean(0).argmax()
    return vocabulary.vectors[best][None].clone()


def candidates(
    clip: Clip, images: Images, model: Model, kind: str, count: int, words: int
) -> Vectors:
    """Candidate x vector x width: starts to choose from. The first is no word at all: what says
    nothing; then Eq. 4, and so many of the words that CLIP finds nearest.
    """
    vocabulary = model.vocabulary()
    scores = similarities(clip, images, vocabulary.words, kind).mean(0)
    nearest = scores.topk(min(words, len(scores))).indices
    mean = cross_attention(clip, images, vocabulary, kind, None)
    found = torch.cat([model.nothing(), mean, vocabulary.vectors[nearest]])
    return found[:, None].repeat(1, count, 1)


def random_vectors(vocabulary: Vocabulary, count: int, generator: torch.Generator) -> Vectors:
    """Count x width, drawn from a normal distribution with the vocabulary's mean and variances."""
    mean, std = vocabulary.vectors.mean(0), vocabulary.vectors.std(0)
    return mean + std * torch.randn(count, len(mean), generator=generator)


def typical_norm(vectors: Vectors, vocabulary: Vocabulary) -> Vectors:
    """The same directions, each encoder's part as long as the words of its vocabulary are."""
    scaled = [
        part / part.norm(dim=1, keepdim=True).clamp_min(1e-12) * typical
        for part, typical in zip(
            vectors.split(list(vocabulary.parts), 1), typical_norms(vocabulary), strict=True
        )
    ]
    return torch.cat(scaled, 1)


def typical_norms(vocabulary: Vocabulary) -> list[float]:
    """The length of the words of each encoder's vocabulary, the median."""
    parts = vocabulary.vectors.split(list(vocabulary.parts), 1)
    return [float(words.norm(dim=1).median()) for words in parts]


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
    learned: Word | None = None,
) -> Vectors:
    """Count x width: the vectors that a search starts from.

    Args:
        how: one of INITIALIZATIONS.
        kind: "object" or "style".
        word: the word or phrase for "word"; its tokens are used in turn, the last one repeated.
            For "file", the place of a learned word, as ``load_word`` takes it; see ``as_start``.
        learned: for "file", the word, where it has been read already.

    Raises:
        SettingError: unknown ``how``, no CLIP where one is needed, or a learned word with more than
            ``count`` vectors.
        WordError: "word" without a word, or with more tokens than vectors; "file" without the file
            of a word for this model.
    """
    vocabulary = model.vocabulary()
    if how == "random":
        return random_vectors(vocabulary, count, generator)
    if how == "word":
        return _from_phrase(model.embed(word), word, count)
    if how == "file":
        return as_start(learned or load_word(word), model, count).vectors
    one_of("initialization", how, tuple(INITIALIZATIONS))
    if clip is None:
        raise SettingError(
            f"the initialization {how} needs a CLIP model.",
            "Give one with `clip`, or a word to start from with `start`.",
        )
    if how == "lowest":
        return model.nothing().repeat(count, 1)
    if how == "nearest":
        start = nearest_word(clip, images, vocabulary, kind)
    else:
        start = cross_attention(clip, images, vocabulary, kind, temperature)
    return start.repeat(count, 1)


def _from_phrase(embedded: Vectors, word: str, count: int) -> Vectors:
    if len(embedded) > count:
        raise WordError(
            f"`start` may have as many tokens as the word has vectors, {count} (got "
            f"{len(embedded)} in {shown(word)}).",
            "Use a shorter word, or raise `vectors`.",
        )
    return _lengthened(embedded, count)


def read_start(settings: LearnSettings) -> Word | None:
    """The learned word that the settings name as the start; None if they name none.

    Raises:
        SettingError: it has more vectors than the new word.
        WordError: it cannot be read.
    """
    if settings.initialization != "file":
        return None
    learned = load_word(settings.start)
    _check_count(learned, settings.vectors)
    return learned


def _check_count(learned: Word, count: int) -> None:
    """Raise ``SettingError`` if the word to start from has more vectors than the new one."""
    if len(learned.vectors) > count:
        raise SettingError(
            f"`vectors` must be at least {len(learned.vectors)}, as many as the word "
            f"{shown(learned.placeholder)} to start from has (got {count}).",
            "Raise `vectors`, or leave it out.",
        )


def as_start(learned: Word, model: Model, count: int) -> Word:
    """A learned word as the start of a search: with vectors for just the model's text encoders, the
    last one repeated up to ``count``.

    Raises:
        SettingError: it has more than ``count``.
        WordError: it is of another model.
    """
    _check_count(learned, count)
    vectors = _lengthened(fitted(learned, model).vectors, count)
    return Word(learned.placeholder, vectors, model.encoders)


def _lengthened(vectors: Vectors, count: int) -> Vectors:
    return torch.cat([vectors, vectors[-1:].expand(count - len(vectors), -1)])
