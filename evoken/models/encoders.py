"""The text encoders of a model side by side, and which of them a word lives in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evoken.arrays import NO_WORDS, Vectors, Words
from evoken.errors import SettingError, WordError, shown
from evoken.models.base import Vocabulary
from evoken.models.text import TextEncoder, candidates_of
from evoken.prompts import without

Reads = Mapping[str, Callable[[Any], Tensor]]  # by encoder: what is taken of its output


class TextEncoders:
    """Encoders by name. A word's vectors are those of its encoders side by side; the other encoders
    read the prompt without the word.

    Attributes:
        carriers: names of the encoders that a word lives in, in the model's order.
        part: all of them, which read a generation's sentences one after the other; with `offload`
            they are on the card together.
    """

    def __init__(
        self, encoders: Mapping[str, TextEncoder], asked: str, default: Sequence[str]
    ) -> None:
        """
        Args:
            asked: names with commas between them; "" means ``default``.

        Raises:
            SettingError: the model has no encoder of such a name.
        """
        self.encoders = encoders
        self.part = nn.ModuleList([text.encoder for text in encoders.values()])
        for text in encoders.values():
            text.part = self.part
        names = [n.strip() for n in asked.split(",")] if asked else list(default)
        if unknown := [n for n in names if n not in encoders]:
            raise SettingError(
                f"`encoders` must be among {', '.join(encoders)} (got "
                f"{shown(', '.join(unknown))}).",
                "Change `encoders`, or use another model.",
            )
        self.carriers = tuple(n for n in encoders if n in names)

    @property
    def _carrying(self) -> list[TextEncoder]:
        return [self.encoders[n] for n in self.carriers]

    @property
    def width(self) -> int:
        """Length of a token embedding, all of the word's encoders together."""
        return sum(text.width for text in self._carrying)

    def vocabulary(self) -> Vocabulary:
        """The words that all of the word's encoders know."""
        found = [text.vocabulary() for text in self._carrying]
        if len(found) == 1:
            return found[0]
        places = [{word: i for i, word in enumerate(v.words)} for v in found]
        shared = tuple(w for w in found[0].words if all(w in place for place in places))
        vectors = [
            v.vectors[torch.tensor([place[w] for w in shared])]
            for v, place in zip(found, places, strict=True)
        ]
        return Vocabulary(
            shared, torch.cat(vectors, 1), tuple(text.width for text in self._carrying)
        )

    def embed(self, phrase: str) -> Vectors:
        """Token x width: the embeddings of the phrase's tokens."""
        found = [text.embed(phrase) for text in self._carrying]
        lengths = [len(vectors) for vectors in found]
        if len(set(lengths)) > 1:
            raise WordError(
                "a phrase must have as many tokens in every text encoder (got "
                f"{' and '.join(map(str, lengths))} for {shown(phrase)}).",
                "Use one common word.",
            )
        return torch.cat(found, 1)

    def nothing(self) -> Vectors:
        """1 x width: what says nothing within a sentence: the embedding of the token that ends
        prompts; of language models whose prompts have no such token, zeros.
        """
        return torch.cat([text.nothing() for text in self._carrying], 1)

    def has_token(self, placeholder: str) -> bool:
        """Whether the placeholder is already a token of a tokenizer."""
        return any(text.has_token(placeholder) for text in self.encoders.values())

    @property
    def _widest(self) -> TextEncoder:
        """The encoder that reads the most of a prompt."""
        return max(self.encoders.values(), key=lambda text: text.prompt_room)

    @property
    def prompt_room(self) -> int:
        """Most tokens of a prompt that are read, without start and end."""
        return self._widest.prompt_room

    def count_tokens(self, prompt: str) -> int:
        """Length of a prompt in tokens, without start and end."""
        return self._widest.count_tokens(prompt)

    def encode(self, prompts: Sequence[str], words: Words, reads: Reads) -> dict[str, Tensor]:
        """By encoder: what is read of candidate * prompt, candidates outermost; without words, of
        every prompt.
        """
        widths = [text.width for text in self._carrying]
        split = {word: vectors.split(widths, -1) for word, vectors in words.items()}
        plain = [without(p, words) for p in prompts]
        found = {}
        for name, text in self.encoders.items():
            if name in self.carriers:
                part = self.carriers.index(name)
                own = {word: parts[part] for word, parts in split.items()}
                found[name] = text.encode(prompts, own, reads[name])
            else:
                states = text.encode(plain, NO_WORDS, reads[name])
                found[name] = states.repeat(candidates_of(words), 1, 1)
        return found
