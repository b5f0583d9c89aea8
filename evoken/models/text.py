"""CLIP text encoders whose input embeddings are arguments."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from evoken.arrays import Vectors
from evoken.errors import WordError
from evoken.models.base import ModelSpec, Vocabulary
from evoken.models.batches import in_batches


def arithmetic(spec: ModelSpec) -> torch.autocast:
    """The context in which a model of this spec computes."""
    kind = torch.device(spec.device).type
    return torch.autocast(kind, torch.bfloat16, enabled=spec.precision == "bfloat16")


class TextEncoder:
    """An encoder of transformers (``CLIPTextModel``, with projection or without), its tokenizer."""

    def __init__(self, encoder: Any, tokenizer: Any, spec: ModelSpec) -> None:
        self.encoder, self.tokenizer, self.spec = encoder, tokenizer, spec
        self.encoder.to(spec.device).eval().requires_grad_(False)
        self.table: nn.Embedding = encoder.get_input_embeddings()

    @property
    def width(self) -> int:
        """Length of a token embedding."""
        return int(self.table.weight.shape[1])

    def vocabulary(self) -> Vocabulary:
        """Tokens that end a word and are written in letters: bytes, word pieces and signs hardly
        occur alone in captions, and their embeddings mean little.

        Differs: the paper's Eq. 4 takes every token.
        """
        found = {
            token.removesuffix("</w>"): i
            for token, i in self.tokenizer.get_vocab().items()
            if token.endswith("</w>") and len(token) > 6 and token.removesuffix("</w>").isalpha()
        }
        words = tuple(sorted(found))
        ids = torch.tensor([found[w] for w in words], device=self.table.weight.device)
        return Vocabulary(words, self.table.weight[ids].detach().clone())

    def embed(self, phrase: str) -> Vectors:
        """Token x width: the embeddings of the phrase's tokens."""
        ids = self._ids(phrase)
        if not ids:
            raise WordError("a word or phrase to start from", repr(phrase), "Give a word.")
        return self.table.weight[torch.tensor(ids, device=self.table.weight.device)].detach()

    def has_token(self, placeholder: str) -> bool:
        """Whether the placeholder is already a token."""
        vocabulary = self.tokenizer.get_vocab()
        return any(p in vocabulary for p in (placeholder, placeholder.lower() + "</w>"))

    @property
    def prompt_room(self) -> int:
        """Most tokens of a prompt that are read, without start and end."""
        return int(self.tokenizer.model_max_length) - 2

    def count_tokens(self, prompt: str) -> int:
        """Length of a prompt in tokens, without start and end."""
        return len(self._ids(prompt))

    def _ids(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False, truncation=False).input_ids
        return [int(i) for i in ids]

    def place(self, prompt: str, placeholder: str, count: int) -> tuple[list[int], list[int]]:
        """Token ids of a prompt, and where in them the word's vectors go.

        The stand-in at those places is the first ordinary token: an id above the end-of-text token
        would move the pooled output of some CLIP text encoders.
        """
        room = self.tokenizer.model_max_length
        ids: list[int] = [self.tokenizer.bos_token_id]
        places: list[int] = []
        for i, piece in enumerate(prompt.split(placeholder) if count else [prompt]):
            if i:
                places += range(len(ids), len(ids) + count)
                ids += [0] * count
            ids += self._ids(piece)
        if places and places[-1] > room - 2:
            raise WordError(f"a prompt of at most {room - 2} tokens",
                            f"{len(ids) - 1} in {prompt!r}",
                            "Shorten it, or put the placeholder earlier.")  # fmt: skip
        ids = [*ids[: room - 1], self.tokenizer.eos_token_id]
        pad = self.tokenizer.pad_token_id
        return ids + [pad] * (room - len(ids)), places

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        placeholder: str,
        vectors: Vectors | None,
        read: Callable[[Any], Tensor],
    ) -> Tensor:
        """``read`` of the encoder's output for candidate * prompt, candidates outermost; without
        vectors, for every prompt.
        """
        count = 0 if vectors is None else vectors.shape[1]
        rows = [self.place(p, placeholder, count) for p in prompts]
        ids = torch.tensor([r for r, _ in rows], device=self.table.weight.device)
        inputs = [ids]
        if vectors is not None:
            embedded = self.table(ids).repeat(len(vectors), 1, 1, 1)
            for j, (_, places) in enumerate(rows):
                for k in range(0, len(places), count):
                    embedded[:, j, places[k] : places[k] + count] = vectors.to(embedded)
            inputs = [ids.repeat(len(vectors), 1), embedded.flatten(0, 1)]

        def encode(ids: Tensor, *embedded: Tensor) -> Tensor:
            with substituted_embeddings(self.table, *embedded):
                return read(self.encoder(ids, output_hidden_states=True))

        with arithmetic(self.spec):
            return in_batches(encode, self.spec.batch, *inputs).float()


@contextmanager
def substituted_embeddings(table: nn.Embedding, embedded: Tensor | None = None) -> Iterator[None]:
    """Within the block, the embedding layer returns ``embedded`` to this thread instead of looking
    ids up. This is how vectors become arguments of encoders that take ids only.
    """
    if embedded is None:
        yield
        return
    here = get_ident()
    hook = table.register_forward_hook(lambda *_: embedded if get_ident() == here else None)
    try:
        yield
    finally:
        hook.remove()
