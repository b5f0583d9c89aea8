"""A learned word, and its file in a run folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
import torch.nn.functional as F

from evoken.arrays import PathLike, Vectors
from evoken.errors import WordError, shown
from evoken.files import write_bytes
from evoken.models.base import Model, Vocabulary
from evoken.words.files import WORD_FILE as WORD_FILE
from evoken.words.files import read_embedding, safetensors_bytes
from evoken.words.header import header
from evoken.words.layouts import Embedding, told_by_width


@dataclass(frozen=True)
class Word:
    """A pseudo-token: the string that stands for it in prompts, and its vectors.

    Attributes:
        placeholder: the string.
        vectors: vector x width; those for several text encoders side by side.
        encoders: the text encoders and their widths, in order, as ``Model.encoders`` has them;
            without them, the file of a word of several encoders is of use to this program alone.
    """

    placeholder: str
    vectors: Vectors
    encoders: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows, width = self.vectors.shape
        return f"<Word {self.placeholder}: {rows} x {width}>"


def save_word(path: PathLike, word: Word, about: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write {placeholder: vectors}, or {encoder: vectors} if there are several text encoders or one
    that the width does not tell, as float32, with ``about`` in the file's header.
    """
    parts = split(word) if word.encoders else {}
    embedding = Embedding(word.placeholder, parts, about, "encoders")
    base = next(iter(embedding.bases), None) if parts else None
    tensors = {word.placeholder: word.vectors} if told_by_width(word.encoders) else parts
    write_bytes(Path(path), safetensors_bytes(tensors, header(embedding, base)))


def load_word(path: PathLike) -> Word:
    """Read a word from any program's embedding file, or from a run folder.

    Raises:
        WordError: no such file, or none of one word's vectors.
    """
    return word_of(read_embedding(Path(path)))


def word_of(embedding: Embedding) -> Word:
    """The word in an embedding file; ``WordError`` if its encoders' vectors make no rows."""
    return Word(embedding.placeholder, embedding.side_by_side(), embedding.widths)


def split(word: Word) -> dict[str, Vectors]:
    """The vectors for each of the word's text encoders, vector x width."""
    parts = word.vectors.split(list(word.encoders.values()), 1)
    return dict(zip(word.encoders, parts, strict=True))


def fitted(word: Word, model: Model) -> Word:
    """The word with vectors for just the text encoders that the model reads words with.

    Raises:
        WordError: it lacks some, or they are of other widths.
    """
    if word.vectors.shape[1] == model.width:
        return word
    parts = split(word) if word.encoders else {}
    chosen = [parts[n] for n, w in model.encoders.items() if word.encoders.get(n) == w]
    if not chosen or len(chosen) < len(model.encoders):
        raise WordError(
            f"{shown(model.spec.name)} needs a word of width {model.width} (got width "
            f"{word.vectors.shape[1]}).",
            "Use the model and the `encoders` that it was learned on.",
        )
    return Word(word.placeholder, torch.cat(chosen, 1), model.encoders)


def nearest_words(
    vectors: Vectors, vocabulary: Vocabulary, count: int = 5
) -> list[list[tuple[str, float]]]:
    """For each vector, the words with the highest cosine to it, and the cosine."""
    cosines = F.normalize(vectors, dim=1) @ F.normalize(vocabulary.vectors, dim=1).T
    best = cosines.topk(min(count, len(vocabulary.words)))
    return [
        [(vocabulary.words[i], value) for i, value in zip(ids, values, strict=True)]
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
