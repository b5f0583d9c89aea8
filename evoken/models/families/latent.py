"""What all models on latents share: the autoencoder, the word's encoders, the count of calls."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evoken.arrays import NO_WORDS, Hidden, Images, Latents, NoiseLevels, Vectors, Words
from evoken.decoding import MIN_SIDE
from evoken.errors import SettingError
from evoken.models.autoencoders import autoencoder_of
from evoken.models.base import Vocabulary
from evoken.models.batches import UNIT, in_batches
from evoken.models.card import home, on_card
from evoken.models.encoders import TextEncoders
from evoken.models.quantized import said
from evoken.models.runtimes.choose import Denoiser, on_runtime
from evoken.models.runtimes.exports import Check
from evoken.models.runtimes.precision import arithmetic, check_layers, keep_weights
from evoken.models.sampling import GUIDANCE, STEPS
from evoken.process import Process
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec

LARGE = 128  # px; from here on the autoencoder takes pictures one at a time, whatever the batch
LARGER = 4  # times the size that a model was made for: beyond that nothing comes of it


class LatentModel(ABC):
    """A pipeline's autoencoder, denoiser and text encoders; the families say what the denoiser
    reads.
    """

    def __init__(
        self,
        vae: Any,
        denoiser: Any,
        function: nn.Module,
        texts: TextEncoders,
        spec: ModelSpec,
        side: int,
        patch: int = 1,
    ) -> None:
        """
        Args:
            function: the denoiser as a function of tensors alone, which all have a row per item;
                whatever runs a denoiser elsewhere is made from it.
            side: of the latents that the model was trained for.
            patch: side of the squares of latents that are one token of the denoiser.

        Raises:
            ModelError: an autoencoder whose latents are not scaled by one number.
            SettingError: the size is not possible.
        """
        if RUNTIMES[spec.runtime].engine and not self.exported:
            here = [name for name, runtime in RUNTIMES.items() if not runtime.engine]
            raise SettingError(
                f"`runtime` must be {' or '.join(here)} for this kind of model (got "
                f"{spec.runtime}).",
                "Change `runtime`.",
            )
        self.texts, self.calls, self._function = texts, 0, function
        self._running: Denoiser | None = None
        self.check: Check | None = None  # of the runtime, once it was compared with torch
        self.spec = replace(spec, encoders=",".join(texts.carriers))
        self.device = torch.device(spec.device)
        self.vae, self.denoiser, self.autoencoder = vae, denoiser, autoencoder_of(vae)
        if spec.runtime == "torch":  # others begin as loaded, and keep what is theirs
            keep_weights(denoiser, spec)
        keep_weights(vae, replace(spec, precision="float32"))
        for part in (vae, denoiser):
            check_layers(part, spec)
            part.to(home(spec)).eval().requires_grad_(False)
        factor = self.autoencoder.factor
        own = side * factor
        self.size = spec.size or own  # side of the images in pixels
        if self.size > LARGER * own:
            raise SettingError(
                f"`size` must be at most {LARGER * own}, {LARGER} times that of the model (got "
                f"{self.size})."
            )
        if self.size < MIN_SIDE or self.size % (factor * patch):
            raise SettingError(
                f"`size` must be a multiple of {factor * patch} and at least {MIN_SIDE} (got "
                f"{self.size})."
            )
        self._side, self._patch = self.size // factor, patch

    architecture = ""  # see ``Model``
    quantized: Mapping[str, str] = MappingProxyType({})  # parts, and how their weights are kept
    learned_on = ""  # of a distilled model, the hub ids of what words for it are learned on
    process: Process
    exported = True  # whether runtimes can be given the denoiser: not where rows differ in length

    @property
    def precision(self) -> str:
        """That of its arithmetic, and how its weights are kept where they are in fewer bits."""
        return said(self.spec.precision, self.spec.runtime, self.quantized)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What comes onto a card for itself, with `offload`: by its name, for people."""
        named = {"text encoders": self.texts.part, "denoiser": self.denoiser}
        return named | {"autoencoder": self.vae}

    @property
    def encoders(self) -> dict[str, int]:
        """Widths of the token embeddings of the encoders that a word lives in, by their names."""
        return {name: self.texts.encoders[name].width for name in self.texts.carriers}

    @property
    def width(self) -> int:
        """Length of a token embedding, all of the word's encoders together."""
        return self.texts.width

    def vocabulary(self) -> Vocabulary:
        """The words that embeddings can be borrowed from."""
        return self.texts.vocabulary()

    def embed(self, phrase: str) -> Vectors:
        """Token x width: the embeddings of the phrase's tokens."""
        return self.texts.embed(phrase)

    def nothing(self) -> Vectors:
        """1 x width: what says nothing within a sentence: the embedding of the token that ends
        prompts; of language models whose prompts have no such token, zeros.
        """
        return self.texts.nothing()

    def has_token(self, placeholder: str) -> bool:
        """Whether the placeholder is already a token of a tokenizer."""
        return self.texts.has_token(placeholder)

    @property
    def prompt_room(self) -> int:
        """Most tokens of a prompt that are read, without start and end."""
        return self.texts.prompt_room

    def count_tokens(self, prompt: str) -> int:
        """Length of a prompt in tokens, without start and end."""
        return self.texts.count_tokens(prompt)

    @abstractmethod
    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """What the denoiser reads of each prompt; see ``Model``."""

    def condition_negative(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """What guidance leads away from; see ``Model``."""
        return self.condition(prompts, words)

    @abstractmethod
    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        """The prediction for each item of the batch."""

    @abstractmethod
    def schedule(self, steps: int) -> list[float]:
        """Levels of the process's ODE, from noise down to 0; see ``Model``."""

    @abstractmethod
    def generate(
        self,
        hidden: Hidden,
        seeds: Sequence[int],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        negative: Hidden | None = None,
    ) -> Images:
        """One picture per row of ``hidden`` and seed, guided."""

    guidance_calls = 2

    @torch.no_grad()
    def guided(
        self,
        latents: Latents,
        t: NoiseLevels,
        hidden: Hidden,
        guidance: float,
        negative: Hidden | None = None,
    ) -> Latents:
        """The prediction pushed away from what is predicted for ``negative``, 1 x token x width, or
        without a prompt.

        Source: Ho & Salimans 2022, classifier-free guidance.
        """
        if guidance == 1:
            return self.denoise(latents, t, hidden)
        other = self._unconditional if negative is None else negative
        most = max(hidden.shape[1], other.shape[1])
        both = torch.cat([_filled(other.expand(len(hidden), -1, -1), most), _filled(hidden, most)])
        predicted = self.denoise(latents.repeat(2, 1, 1, 1), t.repeat(2), both)
        without, with_prompt = predicted.chunk(2)
        return self._pushed(without, with_prompt, guidance)

    def _pushed(self, without: Latents, with_prompt: Latents, guidance: float) -> Latents:
        """A prediction pushed away from another one."""
        return without + guidance * (with_prompt - without)

    @cached_property
    def _unconditional(self) -> Hidden:
        """1 x token x width: what the model was trained to read where there is no prompt."""
        return self.condition_negative([""])

    @torch.no_grad()
    def encode(self, images: Images) -> Latents:
        """Latents of images: the mean of the autoencoder's posterior, scaled for the denoiser."""
        return self.autoencoder.scaled(self._pictures(self.autoencoder.encode, images))

    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        """Images of latents."""
        latents = self.autoencoder.unscaled(latents)
        return self._pictures(self.autoencoder.decode, latents).clamp(-1, 1)

    def _pictures(self, function: Callable[..., Tensor], rows: Tensor) -> Tensor:
        """The autoencoder's part in batches. Of large pictures one fills the machine, and sixteen
        would be the most memory that a run ever needs.
        """
        batch, unit = (1, 1) if self.size >= LARGE else (self.spec.batch, UNIT)
        with on_card(self.vae, self.device, self.spec.offload):
            rows, threads = rows.to(self.device), self.autoencoder.threads
            return in_batches(function, batch, rows, unit=unit, threads=threads).cpu()

    def noise(self, seeds: Sequence[int]) -> Latents:
        """One starting noise per seed, the same whatever stands beside it."""
        shape = (1, self.autoencoder.channels, self._side, self._side)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.cat(rows)

    @torch.no_grad()
    def _denoise(self, *inputs: Tensor) -> Latents:
        """The denoiser in batches, every item counted as a call.

        Only here and in ``_pictures`` latents are on the device. What is done to them elsewhere
        costs nothing, gives the same bits for every device, and may be in float64.
        """
        with on_card(self.denoiser, self.device, self.spec.offload):
            return self._run(*(x.to(self.device) for x in inputs)).float().cpu()

    def _run(self, *inputs: Tensor) -> Tensor:
        """The denoiser, which is there, of inputs that are."""
        if self._running is None:
            some = torch.arange(UNIT, device=self.device) % len(inputs[0])
            self._running, self.check = on_runtime(
                self.spec, self._function, [x[some] for x in inputs]
            )
        self.calls += len(inputs[0])
        threads = not RUNTIMES[self.spec.runtime].own_threads
        with arithmetic(self.spec):
            return in_batches(self._running, self.spec.batch, *inputs, threads=threads)


def _filled(hidden: Hidden, tokens: int) -> Hidden:
    """The same with so many tokens, the last of them zeros."""
    return F.pad(hidden, (0, 0, 0, tokens - hidden.shape[1]))
