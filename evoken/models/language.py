"""Language models as text encoders: the text around a prompt, the layers that are read, words in
their input embeddings, and prompts of any length.

What the denoiser reads of a prompt, ``Hidden``, is rectangular and prompts differ in length. So
there is one more column, which says 1 for a token and 0 for what fills up the shorter rows. Neither
the encoder nor the denoiser ever sees the filling: rows of one length are computed together, which
gives the bits of every row for itself, and computes no token for nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jinja2 import TemplateError
from torch import Tensor, nn

from evoken.arrays import NO_WORDS, Hidden, Vectors, Words
from evoken.errors import ModelError, WordError, reason_of, shown
from evoken.libraries import transformers
from evoken.models.batches import in_batches
from evoken.models.card import on_card
from evoken.models.runtimes.precision import arithmetic
from evoken.models.text import Places, TextEncoder, candidates_of
from evoken.prompts import pieces
from evoken.spec import ModelSpec

MARK = "\ue000"  # stands for a word while a prompt is written out; no text has this character
PROBE = "a cat\ue001"  # a prompt that is in no template
SPACES = ("\u0120", "\u2581")  # how tokens write the space before a word


@dataclass(frozen=True)
class Form:
    """How a pipeline gives a prompt to its language model, and what it takes of the states.

    Attributes:
        write: the whole text that the model reads for a prompt.
        room: most tokens of that text; what is beyond them is not read.
        first: how many tokens at its start are taken,
        skipped: and from which token on all others are.
        padding: most tokens of padding that are taken too; of them, the model is told that they say
            nothing.
    """

    write: Callable[[str], str]
    room: int
    first: int = 0
    skipped: int = 0
    padding: int = 0


class _Row(NamedTuple):
    """A prompt as the model reads it."""

    ids: list[int]
    places: Places
    said: list[bool]  # of each token, whether it is no padding


class LanguageModel(TextEncoder):
    """The layers of a language model up to the last one that is read, and its tokenizer. With
    float16 it computes in bfloat16, which such models are trained in.
    """

    def __init__(
        self, encoder: Any, tokenizer: Any, spec: ModelSpec, form: Form, layers: Sequence[int]
    ) -> None:
        """
        Args:
            encoder: of transformers. Of one that also sees pictures or speaks, only the layers that
                read are kept.
            layers: the indices of the hidden states that are read, as transformers counts them;
                () means what comes out at last.

        Raises:
            ModelError: it has fewer layers.
        """
        if spec.precision == "float16":
            spec = replace(spec, precision="bfloat16")
        self.encoder, self.tokenizer, self.spec = _reading_part(encoder), tokenizer, spec
        self.form, self.layers = form, self._keep_layers(layers)
        first = next(iter(getattr(self.encoder, "layers", ())), None)  # T5 has blocks
        self._causal = bool(first is not None and first.self_attn.is_causal)
        self._take(self.encoder.get_input_embeddings())
        # Those of tokens are the table's times this number, in transformers' Gemma.
        self._scale = float(getattr(self.table, "embed_scale", 1.0))
        special = [int(i) for i in tokenizer("").input_ids]
        self._start = [i for i in special if i == tokenizer.bos_token_id]
        self._end = [i for i in special if i == tokenizer.eos_token_id]
        self.room = form.room

    def _keep_layers(self, layers: Sequence[int]) -> tuple[int, ...]:
        """Give up the layers behind the last one that is read.

        Returns:
            The indices, from the start.
        """
        if not layers:
            return ()
        stack = self.encoder.layers
        found = tuple(i % (len(stack) + 1) for i in layers)
        if max(layers) > len(stack):
            raise ModelError(
                f"the model reads its text encoder's layer {max(layers)}, and there are "
                f"{len(stack)}.",
                "Take both from the same model.",
            )
        if max(found) < len(stack):
            self.encoder.layers = stack[: max(found)]
            self.encoder.norm = nn.Identity()  # what is behind the last layer, and not read here
        return found

    def _whole_word(self, token: str) -> str:
        """Words of lower-case letters from a to z, with the space before them: there are tens of
        thousands, and CLIP reads no others.
        """
        word = token[1:] if token.startswith(SPACES) else ""
        return word if word.isascii() and word.islower() else ""

    def embed(self, phrase: str) -> Vectors:
        """Token x width: the embeddings of the phrase's tokens, as they are within a prompt."""
        return super().embed(f" {phrase.strip()}" if phrase.strip() else "")

    def nothing(self) -> Vectors:
        """1 x width: the embedding of the token that the tokenizer ends a text with; zeros where it
        puts none: the token that ends a text may there end the message that a prompt is in.
        """
        return super().nothing() if self._end else torch.zeros(1, self.width)

    @property
    def prompt_room(self) -> int:
        """Most tokens of a prompt that are read, without what stands around it."""
        around = self._start + self._ids(self.form.write("")) + self._end
        return self.room - len(around)

    def row(self, prompt: str, lengths: Mapping[str, int], form: Form) -> _Row:
        """A prompt as the model reads it. A word is a token of its own, whatever it touches: the
        texts beside it are read as if it were not there, and of spaces before it there is no token,
        as there is none before any word.

        Args:
            lengths: how many vectors each word has, by its placeholder.

        Raises:
            WordError: a placeholder would be cut off.
        """
        cut = pieces(prompt, lengths)
        names = [name for _, name in cut if name]
        written = form.write(MARK.join(text.replace(MARK, "") for text, _ in cut)).split(MARK)
        starts = bool(self.tokenizer.bos_token) and written[0].startswith(self.tokenizer.bos_token)
        ids = [] if starts else self._start.copy()
        places: Places = []
        for text, name in zip(written, [*names, ""], strict=True):
            ids += self._ids(text.rstrip(" ") if name else text)
            if name:
                places.append((len(ids), name))
                ids += [0] * lengths[name]
        room = form.room - len(self._end)
        if places and places[-1][0] + lengths[places[-1][1]] > room:
            around = len(self._start + self._ids(form.write("")))
            raise WordError(
                f"a prompt may have at most {room - around} tokens (got {len(ids) - around} in "
                f"{shown(prompt)}).",
                "Shorten it, or put the placeholder earlier.",
            )
        ids = ids[:room] + self._end
        said, padding = [True] * len(ids), min(form.padding, form.room - len(ids))
        if not padding:
            return _Row(ids, places, said)
        filling = [self.tokenizer.pad_token_id] * padding
        if self.tokenizer.padding_side == "left":
            places = [(k + padding, name) for k, name in places]
            return _Row(filling + ids, places, [False] * padding + said)
        return _Row(ids + filling, places, said + [False] * padding)

    def encode(
        self,
        prompts: Sequence[str],
        words: Words = NO_WORDS,
        read: Callable[[Any], Tensor] | None = None,
        form: Form | None = None,
    ) -> Hidden:
        """Candidate * prompt x token x width + 1, candidates outermost; without words, of every
        prompt: the states of the layers side by side, and the column that says where they end.

        Args:
            read: what is taken of the encoder's output, instead of the layers.
            form: other than for prompts.
        """
        form = form or self.form
        lengths = {name: vectors.shape[1] for name, vectors in words.items()}
        rows, candidates = [self.row(p, lengths, form) for p in prompts], candidates_of(words)
        # A row that begins alike for all candidates is read for itself, others with those of their
        # length.
        begins = [self._alike(row) if candidates > 1 and read is None else 0 for row in rows]
        groups: dict[tuple[int, int], list[int]] = {}
        for j, (row, alike) in enumerate(zip(rows, begins, strict=True)):
            groups.setdefault((len(row.ids), j if alike else -1), []).append(j)
        found: dict[int, Tensor] = {}
        with on_card(self.part, self.spec.device, self.spec.offload), arithmetic(self.spec):
            for (length, _), same in sorted(groups.items()):
                inputs = self._inputs([rows[j] for j in same], words, lengths)
                kept = [*range(form.first), *range(max(form.first, form.skipped), length)]
                states = self._states(inputs, begins[same[0]], kept, read)
                states = states.unflatten(0, (candidates, len(same)))
                found |= {j: states[:, i] for i, j in enumerate(same)}
        most = max(states.shape[1] for states in found.values())
        filled = [
            F.pad(F.pad(found[j], (0, 1), value=1.0), (0, 0, 0, most - found[j].shape[1]))
            for j in range(len(rows))
        ]
        return torch.stack(filled, 1).flatten(0, 1)

    def _alike(self, row: _Row) -> int:
        """How many tokens at the start of a row are the same for all candidates, and are read
        without what follows them.
        """
        first = row.places[0][0] if self._causal and row.places else 0
        return first if all(row.said[:first]) else 0  # padding reads everything

    @torch.no_grad()
    def _states(
        self,
        inputs: list[Tensor],
        alike: int,
        kept: Sequence[int],
        read: Callable[[Any], Tensor] | None,
    ) -> Tensor:
        """Row x kept token x width.

        Args:
            alike: tokens that all rows begin with; they are read once, and the others see their
                keys and values.
        """
        if not alike:
            found = in_batches(self._reader(read), self.spec.batch, *inputs)
            return found[:, kept].float()
        embedded, *said = inputs
        cache = transformers.DynamicCache()
        start = self._reader(read, cache)(embedded[:1, :alike])
        begun = transformers.Cache(layers=[_Begun(layer) for layer in cache.layers])
        rest = in_batches(self._reader(read, begun), self.spec.batch, embedded[:, alike:], *said)
        before = start[:, [k for k in kept if k < alike]].expand(len(rest), -1, -1)
        after = rest[:, [k - alike for k in kept if k >= alike]]
        return torch.cat([before, after], 1).float()

    def _inputs(self, rows: list[_Row], words: Words, lengths: Mapping[str, int]) -> list[Tensor]:
        """Embeddings of candidate * row, and where one is padded, which tokens say something."""
        device, candidates = self.table.weight.device, candidates_of(words)
        ids = torch.tensor([row.ids for row in rows], device=device)
        embedded = self.table(ids).float().repeat(candidates, 1, 1, 1)
        for j, row in enumerate(rows):
            for k, name in row.places:
                embedded[:, j, k : k + lengths[name]] = words[name].to(embedded) * self._scale
        inputs = [embedded.flatten(0, 1)]
        if not all(all(row.said) for row in rows):
            said = torch.tensor([row.said for row in rows], device=device)
            inputs.append(said.long().repeat(candidates, 1))
        return inputs

    def _reader(
        self, read: Callable[[Any], Tensor] | None, cache: transformers.Cache | None = None
    ) -> Callable[..., Tensor]:
        """The encoder as a function of embeddings, and of which of them say something.

        Args:
            cache: keys and values of what comes before them.
        """

        def states(embedded: Tensor, said: Tensor | None = None) -> Tensor:
            out = self.encoder(
                inputs_embeds=embedded,
                attention_mask=said,
                output_hidden_states=read is None and bool(self.layers),
                past_key_values=cache,
                use_cache=cache is not None,
            )
            if read is None and self.layers:
                return torch.cat([out.hidden_states[i] for i in self.layers], 2)
            last: Tensor = out.last_hidden_state
            return last if read is None else read(out)

        return states


class _Begun(transformers.cache_utils.DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values of the tokens that all rows begin with. What follows is not kept,
    so that rows and threads can share it.
    """

    def __init__(self, read: Any) -> None:
        """
        Args:
            read: the layer of a cache of one row.
        """
        super().__init__()
        self.lazy_initialization(read.keys, read.values)
        self.keys, self.values = read.keys, read.values

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """The keys and the values of whole rows."""
        rows = len(key_states)
        keys, values = (x.expand(rows, -1, -1, -1) for x in (self.keys, self.values))
        return torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)


def _reading_part(encoder: Any) -> Any:
    """Without what speaks and what sees: neither is needed for prompts."""
    inner = getattr(encoder, "model", encoder)
    return getattr(inner, "language_model", inner)


def chat(tokenizer: Any, system: str = "", **options: Any) -> Callable[[str], str]:
    """How a tokenizer's chat template writes a prompt.

    Args:
        system: a message before it; with one, both are lists of parts, as for models that see.
        options: of the template.

    Raises:
        ModelError: there is no template, or it is not one for this tokenizer.
    """

    def part(text: str) -> Any:
        return [{"type": "text", "text": text}] if system else text

    def write(prompt: str) -> str:
        messages = [{"role": "system", "content": part(system)}] if system else []
        messages.append({"role": "user", "content": part(prompt)})
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        return text

    if problem := _problem(tokenizer, write):
        raise ModelError(
            f"the chat template of the model's tokenizer {problem}.",
            "Take the tokenizer from the model itself, with all of its files.",
        )
    return write


def _problem(tokenizer: Any, write: Callable[[str], str]) -> str:
    """What is wrong with a chat template, as the end of a sentence; "" if nothing is."""
    if not tokenizer.chat_template:
        return "is not there"
    try:
        written = write(PROBE)
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        return f"cannot be used: {reason_of(error)}"
    if written.count(PROBE) != 1:
        return f"must hold the prompt once (got it {written.count(PROBE)} times)"
    marks = {token.content for token in tokenizer.added_tokens_decoder.values()}
    if not any(mark in written for mark in marks - {tokenizer.bos_token}):
        return "is of another model: there are no marks in it that are tokens"
    return ""


def by_length(hidden: Hidden) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of one length after the other: their indices, on the processor, and what the
    denoiser reads of them, row x token x width.
    """
    lengths = hidden[..., -1].sum(1).round().long().cpu()
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero()[:, 0]
        yield rows, hidden[rows.to(hidden.device), :length, :-1]
