"""A learned word, and its file in a run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
import torch.nn.functional as F

from evoken.arrays import PathLike, Vectors
from evoken.errors import WordError, one_line, shown
from evoken.files import write_bytes
from evoken.models.base import Model, Vocabulary
from evoken.models.bases import BASES
from evoken.prompts import holds, pieces
from evoken.words.files import WORD_FILE as WORD_FILE
from evoken.words.files import read_embedding, safetensors_bytes
from evoken.words.header import header
from evoken.words.layouts import Embedding, told_by_width

# Text encoders as models are published with them. A file that names none may be of any other.
_KNOWN = {pair for base in BASES for pair in base.widths.items()}


@dataclass(frozen=True)
class Word:
    """A pseudo-token: its name in prompts, and its vectors.

    Attributes:
        placeholder: its name in prompts, such as "<cat>".
        vectors: vector x width; for several text encoders, their vectors side by side.
        encoders: the text encoders and their widths, in order, as in ``Model.encoders``. Without
            them, only this program can read the file of a word for several encoders.
    """

    placeholder: str
    vectors: Vectors
    encoders: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ``WordError`` where the vectors are none of the encoders'."""
        shape = tuple(self.vectors.shape)
        if len(shape) != 2:
            raise WordError(
                f"the vectors of a word must be vector x width (got the shape {shape}).",
                "Take vectors[None] for one vector.",
            )
        if self.encoders and sum(self.encoders.values()) != shape[1]:
            raise WordError(
                f"the vectors of the text encoders {', '.join(self.encoders)} must be "
                f"{sum(self.encoders.values())} wide together (got {shape[1]})."
            )

    def __repr__(self) -> str:
        rows, width = self.vectors.shape
        return f"<Word {one_line(self.placeholder)}: {rows} x {width}>"


def save_word(path: PathLike, word: Word, about: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write a word to a safetensors file, in float32, with ``about`` in the header: as
    {placeholder: vectors}, or as {encoder: vectors} if there are several text encoders or one that
    its width does not identify.
    """
    parts = split(word) if word.encoders else {}
    embedding = Embedding(word.placeholder, parts, about, "encoders")
    base = next(iter(embedding.bases), None) if parts else None
    tensors = {word.placeholder: word.vectors} if told_by_width(word.encoders) else parts
    write_bytes(Path(path), safetensors_bytes(tensors, header(embedding, base)))


def load_word(path: PathLike) -> Word:
    """Read a word from any program's embedding file, or from a run folder.

    Raises:
        WordError: the file is missing, or does not hold the vectors of one word.
    """
    return word_of(read_embedding(path))


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
        its, other = word.encoders.items(), model.encoders.items()
        if its and its != other and {*its, *other} <= _KNOWN:
            raise WordError(
                f"{shown(model.spec.name)} needs a word for {' and '.join(model.encoders)} (got "
                f"one for {' and '.join(word.encoders)}).",
                "Use the model and the `encoders` that it was learned on.",
            )
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


def words_for(
    model: Model, words: Word | Sequence[Word] | None, *prompts: str
) -> dict[str, Vectors]:
    """By placeholder, the vectors that the model's prompts are to hold, 1 x vector x width.

    Raises:
        WordError: a word is of another model, two have one placeholder, or one is in no prompt.
    """
    found: dict[str, Vectors] = {}
    for word in as_words(words):
        if word.placeholder in found:
            raise WordError(
                f"two words are called {shown(word.placeholder)}.",
                "Use one of them, or give one another name: evoken merge WORD:1 WORD:0 --output "
                "FILE",
            )
        if prompts and not any(holds(prompt, word.placeholder) for prompt in prompts):
            raise WordError(
                f"the prompt {shown(next(filter(None, prompts), ''))} does not contain the word "
                f"{shown(word.placeholder)}.",
                "Put the word into the prompt, as a word of its own.",
            )
        found[word.placeholder] = fitted(word, model).vectors[None]
    return found


def check_length(model: Model, prompts: Sequence[str], lengths: Mapping[str, int]) -> None:
    """Raise ``WordError`` for a prompt of which the model would read only a part.

    Args:
        lengths: how many vectors each word has, by its placeholder.
    """
    for prompt in prompts:
        cut = pieces(prompt, lengths)
        count = sum(model.count_tokens(text) + lengths.get(name, 0) for text, name in cut)
        if count > model.prompt_room:
            raise WordError(
                f"a prompt may have at most {model.prompt_room} tokens (got {count} in "
                f"{shown(prompt)}).",
                "Shorten it.",
            )


def as_words(words: Word | Sequence[Word] | None) -> tuple[Word, ...]:
    """Words as a tuple: of one, of several or of none."""
    if words is None:
        return ()
    return (words,) if isinstance(words, Word) else tuple(words)


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
