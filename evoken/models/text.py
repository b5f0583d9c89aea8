"""Text encoders whose input embeddings are arguments: CLIP's and T5."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import get_ident
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evoken.arrays import Hidden, Vectors, Words
from evoken.errors import ModelError, WordError, shown
from evoken.models.base import Vocabulary
from evoken.models.batches import in_batches
from evoken.models.card import home, on_card
from evoken.models.quantized import is_quantized
from evoken.models.runtimes.precision import arithmetic, check_layers, keep_weights
from evoken.prompts import pieces
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec

Places = list[tuple[int, str]]  # of the first of a word's vectors, and its placeholder


def candidates_of(words: Words) -> int:
    """How many candidates every word has; 1 where there is no word."""
    return len(next(iter(words.values()))) if words else 1


class TextEncoder:
    """A CLIP of transformers (``CLIPTextModel``, with projection or without), and its tokenizer.

    Attributes:
        part: what comes onto a card for it: the encoder, or all that a model has.
    """

    part: nn.Module

    _summary = False  # of others, all states are read

    def __init__(
        self, encoder: Any, tokenizer: Any, spec: ModelSpec, summary: bool = False
    ) -> None:
        """
        Args:
            summary: whether nothing is read of it but the summary of a prompt, which is made where
                the prompt ends: what is behind that, no one needs to compute.
        """
        self._summary = summary
        self.encoder, self.tokenizer, self.spec = encoder, tokenizer, spec
        self._take(encoder.get_input_embeddings())
        self.room = int(tokenizer.model_max_length)  # tokens of a prompt, start and end included
        self._start: list[int] = [tokenizer.bos_token_id]
        tower = getattr(encoder, "text_model", encoder)
        if tower.eos_token_id == 2:
            # The configs of the first CLIPs are wrong here, and transformers then takes the pooled
            # output where the highest id stands: at an added token, where a prompt has one.
            tower.eos_token_id = tokenizer.eos_token_id

    def _take(self, table: nn.Embedding) -> None:
        """Make the encoder ready, whose token embeddings are ``table``.

        Raises:
            ModelError: they are quantised, or other layers are in a way that does not run here.
        """
        if is_quantized(table):
            raise ModelError(
                "the token embeddings of a text encoder are quantised, and words are vectors among "
                "them.",
                "Use a copy of the model with plain token embeddings.",
            )
        self.table, self.part = table, self.encoder
        keep_weights(self.encoder, self.spec)
        if RUNTIMES[self.spec.runtime].int8:
            table.half()  # as it was loaded; rows are made float32 where they are used
        check_layers(self.encoder, self.spec)
        self.encoder.to(home(self.spec)).eval().requires_grad_(False)

    @property
    def width(self) -> int:
        """Length of a token embedding."""
        return int(self.table.weight.shape[1])

    def vocabulary(self) -> Vocabulary:
        """Tokens that end a word and are written in letters: bytes, word pieces and signs rarely
        occur alone in captions, and their embeddings mean little.

        Differs: the paper's Eq. 4 uses all tokens.
        """
        tokens = self.tokenizer.get_vocab().items()
        found = {word: i for token, i in tokens if (word := self._whole_word(token))}
        words = tuple(sorted(w for w in found if len(w) > 2 and w.isalpha()))
        return Vocabulary(words, self._rows([found[w] for w in words]), (self.width,))

    def _whole_word(self, token: str) -> str:
        """The word that a token is, or "" if it is only a part of words."""
        if not token.endswith("</w>"):
            return ""
        # Tokens are written with a sign for each byte: "ÃŃa" is "ía".
        word: str = self.tokenizer.convert_tokens_to_string([token])
        return word.removesuffix("</w>")

    def embed(self, phrase: str) -> Vectors:
        """Token x width: the embeddings of the phrase's tokens."""
        ids = self._ids(phrase)
        if not ids:
            raise WordError(
                f"there must be a word or phrase to start from (got {shown(phrase)}).",
                "Give a word.",
            )
        return self._rows(ids)

    def nothing(self) -> Vectors:
        """1 x width: the embedding of the token that ends a prompt, and says nothing within it."""
        return self._rows([self.tokenizer.eos_token_id])

    def _rows(self, ids: list[int]) -> Vectors:
        """Token x width, on the processor, where words are searched."""
        return self.table.weight[torch.tensor(ids)].detach().float().cpu()

    def has_token(self, placeholder: str) -> bool:
        """Whether the placeholder is already a token."""
        found = self.tokenizer.get_vocab()
        words = (placeholder, placeholder.lower())
        return placeholder in found or any(self._whole_word(t) in words for t in found)

    @property
    def prompt_room(self) -> int:
        """Most tokens of a prompt that are read, without start and end."""
        return self.room - len(self._start) - 1

    def count_tokens(self, prompt: str) -> int:
        """Length of a prompt in tokens, without start and end."""
        return len(self._ids(prompt))

    def _ids(self, text: str) -> list[int]:
        ids = self.tokenizer(
            text, add_special_tokens=False, truncation=False, verbose=False
        ).input_ids
        return [int(i) for i in ids]

    def place(self, prompt: str, lengths: Mapping[str, int]) -> tuple[list[int], Places]:
        """Token ids of a prompt, and where in them which word's vectors begin.

        Args:
            lengths: how many vectors each word has, by its placeholder.

        The stand-in at those places is the first ordinary token: an id above the end-of-text token
        would move the pooled output of some CLIP text encoders.
        """
        ids = self._start.copy()
        places: Places = []
        for text, placeholder in pieces(prompt, lengths):
            ids += self._ids(text)
            if placeholder:
                places.append((len(ids), placeholder))
                ids += [0] * lengths[placeholder]
        if places and places[-1][0] + lengths[places[-1][1]] > self.room - 1:
            raise WordError(
                f"a prompt may have at most {self.prompt_room} tokens (got "
                f"{len(ids) - len(self._start)} in {shown(prompt)}).",
                "Shorten it, or put the placeholder earlier.",
            )
        ids = [*ids[: self.room - 1], self.tokenizer.eos_token_id]
        pad = self.tokenizer.pad_token_id
        return ids + [pad] * (self.room - len(ids)), places

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], words: Words, read: Callable[[Any], Tensor]) -> Tensor:
        """``read`` of the encoder's output for candidate * prompt, candidates outermost; without
        words, for every prompt.
        """
        lengths = {name: vectors.shape[1] for name, vectors in words.items()}
        rows = [self.place(p, lengths) for p in prompts]
        with on_card(self.part, self.spec.device, self.spec.offload):
            return self._read(rows, words, lengths, read)

    def _read(
        self,
        rows: list[tuple[list[int], Places]],
        words: Words,
        lengths: Mapping[str, int],
        read: Callable[[Any], Tensor],
    ) -> Tensor:
        """What ``encode`` gives, of tokens and places; the encoder is where it computes."""
        ids = torch.tensor([r for r, _ in rows], device=self.table.weight.device)
        if self._summary:
            end = self.tokenizer.eos_token_id
            ids = ids[:, : max(row.index(end) for row, _ in rows) + 1]
        embedded = self.table(ids).float()
        if words:
            candidates = candidates_of(words)
            ids, embedded = ids.repeat(candidates, 1), embedded.repeat(candidates, 1, 1, 1)
            for j, (_, places) in enumerate(rows):
                for k, name in places:
                    embedded[:, j, k : k + lengths[name]] = words[name].to(embedded)
            embedded = embedded.flatten(0, 1)

        def encode(ids: Tensor, embedded: Tensor) -> Tensor:
            with substituted_embeddings(self.table, embedded):
                return read(self.encoder(ids, output_hidden_states=True))

        with arithmetic(self.spec):
            return in_batches(encode, self.spec.batch, ids, embedded).float()


class T5Encoder(TextEncoder):
    """The encoder of a T5, and its tokenizer; with float16 it computes in bfloat16, because what
    its feed-forward layers give is larger than float16 can hold.
    """

    def __init__(self, encoder: Any, tokenizer: Any, spec: ModelSpec, room: int) -> None:
        """
        Args:
            room: tokens of every prompt, end and padding included.
        """
        if spec.precision == "float16":
            spec = replace(spec, precision="bfloat16")
        self.encoder, self.tokenizer, self.spec = encoder, tokenizer, spec
        # get_input_embeddings() is another layer of the same weights, and is not called.
        self._take(encoder.encoder.embed_tokens)
        self.room, self._start = room, []

    def _whole_word(self, token: str) -> str:
        return token.removeprefix("▁") if token.startswith("▁") else ""


@contextmanager
def substituted_embeddings(table: nn.Embedding, embedded: Tensor) -> Iterator[None]:
    """Within the block, the embedding layer returns ``embedded`` to this thread instead of looking
    ids up. This is how vectors become arguments of encoders that take ids only.
    """
    here = get_ident()
    hook = table.register_forward_hook(lambda *_: embedded if get_ident() == here else None)
    try:
        yield
    finally:
        hook.remove()


def joined(tokens: Tensor, pooled: Tensor, width: int = 0) -> Hidden:
    """Item x token + 1 x width: the tokens, and the pooled prompt as one more row; the shorter
    rows, and all that are shorter than ``width``, end in zeros.
    """
    width = max(width, tokens.shape[-1], pooled.shape[-1])
    both = (F.pad(x, (0, width - x.shape[-1])) for x in (tokens, pooled))
    return torch.cat(list(both), 1)


def penultimate(out: Any) -> Tensor:
    """Of a CLIP's output: the states before the last layer."""
    states: Tensor = out.hidden_states[-2]
    return states


def tokens_and_pooled(out: Any) -> Tensor:
    """Of the output of a CLIP with projection: the states before the last layer, and the projected
    summary as one more row.
    """
    return joined(penultimate(out), out.text_embeds[:, None])
