"""What the program asks of a model, whatever family it is of and wherever it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from evoken.arrays import NO_WORDS, Hidden, Images, Latents, NoiseLevels, Vectors, Words
from evoken.models.sampling import GUIDANCE, STEPS
from evoken.process import Process
from evoken.spec import ModelSpec


@dataclass(frozen=True)
class Vocabulary:
    """The whole words of a model's tokenizers.

    Attributes:
        words: as they are written in a prompt.
        vectors: word x width, their token embeddings; of several encoders side by side.
        parts: width of each encoder's part of the vectors.
    """

    words: tuple[str, ...]
    vectors: Tensor
    parts: tuple[int, ...]


class Model(Protocol):
    """A frozen text-to-image model.

    A learned word is an argument (``vectors``), never an entry of the tokenizer: a population of
    candidates is one batch, and one process can serve several words.
    """

    spec: ModelSpec
    calls: int  # forward passes of the denoiser so far, batch items counted

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """What has weights, by its name: with `offload`, one at a time is on the card."""

    @property
    def process(self) -> Process:
        """How its data becomes noise."""

    @property
    def size(self) -> int:
        """Side of the images in pixels."""

    @property
    def width(self) -> int:
        """Length of a token embedding."""

    @property
    def encoders(self) -> Mapping[str, int]:
        """The text encoders that a word has vectors for, by the names and in the order of
        ``bases.ENCODERS``, with the widths of their token embeddings, which add up to ``width``.
        """

    @property
    def architecture(self) -> str:
        """Its kind, as the ModelSpec standard names it; "" where a word's width tells."""

    @property
    def precision(self) -> str:
        """That of its arithmetic, such as "bfloat16"; and how the weights of its parts are kept
        where they are in fewer bits, as in "bfloat16; transformer: gguf Q8_0".
        """

    def vocabulary(self) -> Vocabulary:
        """The words that embeddings can be borrowed from."""

    def embed(self, phrase: str) -> Vectors:
        """Token x width: the embeddings of the phrase's tokens."""

    def nothing(self) -> Vectors:
        """1 x width: what says nothing within a sentence: the embedding of the token that ends
        prompts; of language models whose prompts have no such token, zeros.
        """

    def has_token(self, placeholder: str) -> bool:
        """Whether the placeholder is already a token of the tokenizer."""

    @property
    def prompt_room(self) -> int:
        """Most tokens of a prompt that are read, without start and end."""

    def count_tokens(self, prompt: str) -> int:
        """Length of a prompt in tokens, without start and end."""

    def encode(self, images: Images) -> Latents:
        """Latents of images: the mean of the autoencoder's posterior, scaled for the denoiser."""

    def decode(self, latents: Latents) -> Images:
        """Images of latents."""

    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """What the denoiser reads of each prompt.

        Args:
            prompts: texts.
            words: by placeholder, candidate x vector x width: what is put where the placeholder
                is in a prompt. Every word has as many candidates.

        Returns:
            candidate * prompt x token x width, candidates outermost; without words,
            prompt x token x width.

        Raises:
            WordError: a prompt is so long that the placeholder would be cut off.
        """

    def condition_negative(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """What the denoiser reads of each negative prompt, which some models are given in another
        form than the prompt; arguments and errors as for ``condition``.
        """

    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        """The prediction (epsilon, v or velocity, see ``process``) for each item."""

    def guided(
        self,
        latents: Latents,
        t: NoiseLevels,
        hidden: Hidden,
        guidance: float,
        negative: Hidden | None = None,
    ) -> Latents:
        """The prediction under guidance, in ``guidance_calls`` calls per item; a guidance of 1 is
        the prediction itself, in one.
        """

    @property
    def guidance_calls(self) -> int:
        """Calls per item of a guided prediction: 2, or 1 where guidance is an input."""

    def schedule(self, steps: int) -> list[float]:
        """Steps + 1 levels of the process's ODE, from noise down to 0, for its Euler method."""

    def noise(self, seeds: Sequence[int]) -> Latents:
        """One starting noise per seed, the same whatever stands beside it."""

    def generate(
        self,
        hidden: Hidden,
        seeds: Sequence[int],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        negative: Hidden | None = None,
    ) -> Images:
        """One picture per row of ``hidden`` and seed, guided."""
