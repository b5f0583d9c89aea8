"""Stable Diffusion 3 and 3.5, and every model of the same classes (``stickers-flow`` too)."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from torch import Tensor, nn

from evoken.arrays import Hidden, Images, Latents, NoiseLevels, Vectors
from evoken.errors import WordError
from evoken.models.base import ModelSpec, Vocabulary
from evoken.models.batches import in_batches
from evoken.models.guidance import guided
from evoken.models.latent import LatentModel
from evoken.models.text import TextEncoder, arithmetic
from evoken.process import RectifiedFlow


class _Transformer(nn.Module):
    """The denoiser as a function of tensors."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, latents: Tensor, timestep: Tensor, hidden: Tensor, pooled: Tensor) -> Tensor:
        out: Tensor = self.transformer(
            hidden_states=latents,
            timestep=timestep,
            encoder_hidden_states=hidden,
            pooled_projections=pooled,
        ).sample
        return out


class StableDiffusion3(LatentModel):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    ``Hidden`` here holds the tokens of all text encoders and, as its last row, the pooled prompt.
    A word lives in both CLIP encoders: its vectors are theirs side by side. T5, where there is one,
    reads the prompt without the word.
    """

    def __init__(
        self, pipeline: StableDiffusion3Pipeline, spec: ModelSpec, t5_tokens: int = 256
    ) -> None:
        """
        Args:
            t5_tokens: length of T5's part of the prompt, as the pipeline's ``max_sequence_length``.
        """
        transformer = pipeline.transformer
        super().__init__(pipeline.vae, transformer, _Transformer(transformer), spec)
        self.texts = (
            TextEncoder(pipeline.text_encoder, pipeline.tokenizer, spec),
            TextEncoder(pipeline.text_encoder_2, pipeline.tokenizer_2, spec),
        )
        self.t5, self.t5_tokenizer = pipeline.text_encoder_3, pipeline.tokenizer_3
        self.t5_tokens = t5_tokens
        if self.t5 is not None:
            self.t5.to(self.device).eval().requires_grad_(False)
        self.scheduler = pipeline.scheduler
        self.process = RectifiedFlow(self.scheduler.config.num_train_timesteps)

    @property
    def width(self) -> int:
        """Length of a token embedding, both encoders' together."""
        return sum(text.width for text in self.texts)

    @property
    def encoders(self) -> dict[str, int]:
        """Both CLIP encoders."""
        return dict(zip(("clip_l", "clip_g"), (t.width for t in self.texts), strict=True))

    @property
    def architecture(self) -> str:
        """As the ModelSpec standard has it."""
        return "stable-diffusion-3"

    def vocabulary(self) -> Vocabulary:
        """The words of both tokenizers."""
        first, second = (text.vocabulary() for text in self.texts)
        place = {word: i for i, word in enumerate(second.words)}
        shared = [(i, place[w]) for i, w in enumerate(first.words) if w in place]
        i, j = (torch.tensor(x) for x in zip(*shared, strict=True))
        words = tuple(first.words[k] for k in i.tolist())
        return Vocabulary(words, torch.cat([first.vectors[i], second.vectors[j]], 1))

    def embed(self, phrase: str) -> Vectors:
        """Token x width: the embeddings of the phrase's tokens."""
        first, second = (text.embed(phrase) for text in self.texts)
        if len(first) != len(second):
            raise WordError("a phrase of as many tokens in both text encoders",
                            f"{len(first)} and {len(second)} for {phrase!r}",
                            "Use one common word.")  # fmt: skip
        return torch.cat([first, second], 1)

    def has_token(self, placeholder: str) -> bool:
        """Whether the placeholder is already a token of a tokenizer."""
        return any(text.has_token(placeholder) for text in self.texts)

    @property
    def prompt_room(self) -> int:
        """Most tokens of a prompt that are read, without start and end."""
        return self.t5_tokens - 1 if self._reads_t5 else self.texts[0].prompt_room

    @property
    def _reads_t5(self) -> bool:
        return self.t5 is not None and self.t5_tokens > 0

    def count_tokens(self, prompt: str) -> int:
        """Length of a prompt in tokens, without start and end."""
        if self._reads_t5:
            return len(self.t5_tokenizer(prompt, add_special_tokens=False).input_ids)
        return self.texts[0].count_tokens(prompt)

    def condition(
        self, prompts: Sequence[str], placeholder: str = "", vectors: Vectors | None = None
    ) -> Hidden:
        """Tokens and pooled prompt, as ``StableDiffusion3Pipeline.encode_prompt`` puts them."""
        parts: list[Vectors | None] = [None, None]
        if vectors is not None:
            parts = list(vectors.split([text.width for text in self.texts], -1))
        found = [
            text.encode(prompts, placeholder, part, _tokens_and_pooled)
            for text, part in zip(self.texts, parts, strict=True)
        ]
        width = self.denoiser.config.joint_attention_dim
        both = torch.cat(found, 2)
        both = F.pad(both, (0, width - both.shape[2]))
        tokens, pooled = both[:, :-1], both[:, -1:]
        candidates = 1 if vectors is None else len(vectors)
        return torch.cat([tokens, self._read_t5(prompts, placeholder, candidates), pooled], 1)

    @torch.no_grad()
    def _read_t5(self, prompts: Sequence[str], placeholder: str, candidates: int) -> Tensor:
        """T5's states, or the zeros that stand for them where there is none."""
        width = self.denoiser.config.joint_attention_dim
        if not self._reads_t5:
            shape = (candidates * len(prompts), self.t5_tokens, width)
            return torch.zeros(shape, device=self.device)
        plain = [p.replace(placeholder, "") if placeholder else p for p in prompts]
        ids = self.t5_tokenizer(
            plain,
            padding="max_length",
            max_length=self.t5_tokens,
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(self.device)
        with arithmetic(self.spec):
            states = in_batches(lambda x: self.t5(x)[0], self.spec.batch, ids).float()
        return states.repeat(candidates, 1, 1)

    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        """The velocity for each item of the batch."""
        pooled = hidden[:, -1, : self.denoiser.config.pooled_projection_dim]
        timestep = self.process.timestep(t).to(self.device)
        return self._denoise(latents, timestep, hidden[:, :-1], pooled)

    def schedule(self, steps: int) -> list[float]:
        """The scheduler's own noise levels."""
        scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(steps)
        return [float(s) for s in scheduler.sigmas]

    @torch.no_grad()
    def generate(
        self, hidden: Hidden, seeds: Sequence[int], steps: int = 28, guidance: float = 5.0
    ) -> Images:
        """Euler's method on the scheduler's noise levels."""
        unconditional, latents = self.condition([""]), self.noise(seeds)
        levels = self.schedule(steps)
        for level, lower in itertools.pairwise(levels):
            t = torch.full((len(hidden),), level)
            velocity = guided(self, latents, t, unconditional, hidden, guidance)
            latents = latents + (lower - level) * velocity
        return self.decode(latents)


def _tokens_and_pooled(out: Any) -> Tensor:
    """The hidden states before the last layer, and the projected summary as one more row."""
    return torch.cat([out.hidden_states[-2], out.text_embeds[:, None]], 1)
