"""Stable Diffusion 3 and 3.5, and every model of the same classes (``stickers-flow`` too)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evoken.arrays import NO_WORDS, Hidden, Latents, NoiseLevels, Words
from evoken.errors import SettingError
from evoken.libraries import diffusers
from evoken.models.bases import SD3
from evoken.models.encoders import Reads, TextEncoders
from evoken.models.families.flow import FlowModel, Transformer
from evoken.models.text import T5Encoder, TextEncoder, joined, tokens_and_pooled
from evoken.spec import ModelSpec

CLIPS = ("clip_l", "clip_g")


class _Transformer(Transformer):
    """The denoiser as a function of tensors."""

    def forward(self, latents: Tensor, timestep: Tensor, hidden: Tensor, pooled: Tensor) -> Tensor:
        out: Tensor = self.transformer(
            hidden_states=latents,
            timestep=timestep,
            encoder_hidden_states=hidden,
            pooled_projections=pooled,
        ).sample
        return out


class StableDiffusion3(FlowModel):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    ``Hidden`` here holds the tokens of all text encoders and, as its last row, the pooled prompt.
    A word lives in both CLIP encoders unless the spec says otherwise.
    """

    architecture = SD3.architecture

    def __init__(
        self, pipeline: diffusers.StableDiffusion3Pipeline, spec: ModelSpec, t5_tokens: int = 256
    ) -> None:
        """
        Args:
            t5_tokens: length of T5's part of the prompt, as the pipeline's ``max_sequence_length``.
        """
        encoders: dict[str, TextEncoder] = {
            "clip_l": TextEncoder(pipeline.text_encoder, pipeline.tokenizer, spec),
            "clip_g": TextEncoder(pipeline.text_encoder_2, pipeline.tokenizer_2, spec),
        }
        if pipeline.text_encoder_3 is not None and t5_tokens:
            t5, tokenizer = pipeline.text_encoder_3, pipeline.tokenizer_3
            encoders["t5xxl"] = T5Encoder(t5, tokenizer, spec, t5_tokens)
        self.t5_tokens = t5_tokens
        transformer, config = pipeline.transformer, pipeline.transformer.config
        texts = TextEncoders(encoders, spec.encoders, CLIPS)
        super().__init__(
            pipeline, _Transformer(transformer), texts, spec, config.sample_size, config.patch_size
        )
        if self._side > config.pos_embed_max_size * config.patch_size:
            most = self.size // self._side * config.pos_embed_max_size * config.patch_size
            raise SettingError(f"`size` must be at most {most} (got {self.size}).")

    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """Tokens and pooled prompt, as ``StableDiffusion3Pipeline.encode_prompt`` puts them."""
        reads: Reads = dict.fromkeys(CLIPS, tokens_and_pooled) | {"t5xxl": lambda out: out[0]}
        found = self.texts.encode(prompts, words, reads)
        both = torch.cat([found[name] for name in CLIPS], 2)
        width = self.denoiser.config.joint_attention_dim
        # Zeros stand for a T5 that is not there.
        t5 = found.get("t5xxl", both.new_zeros(len(both), self.t5_tokens, width))
        return joined(joined(both[:, :-1], t5), both[:, -1:])

    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        """The velocity for each item of the batch."""
        pooled = hidden[:, -1, : self.denoiser.config.pooled_projection_dim]
        return self._denoise(latents, self.process.timestep(t), hidden[:, :-1], pooled)
