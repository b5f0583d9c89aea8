"""Stable Diffusion XL, and every model of the same classes."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from evoken.arrays import NO_WORDS, Hidden, Latents, NoiseLevels, Words
from evoken.libraries import diffusers
from evoken.models.bases import SDXL
from evoken.models.encoders import TextEncoders
from evoken.models.families.diffusion import DiffusionModel
from evoken.models.text import TextEncoder, joined, penultimate, tokens_and_pooled
from evoken.spec import ModelSpec


class _UNet(nn.Module):
    """The denoiser as a function of tensors."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, latents: Tensor, timestep: Tensor, hidden: Tensor, pooled: Tensor, time_ids: Tensor
    ) -> Tensor:
        added = {"text_embeds": pooled, "time_ids": time_ids}
        out: Tensor = self.unet(latents, timestep, hidden, added_cond_kwargs=added).sample
        return out


class StableDiffusionXL(DiffusionModel):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    ``Hidden`` here holds the tokens, both encoders' states side by side, and as its last row the
    second encoder's pooled prompt. The denoiser is told that pictures were made at the size at
    which they are drawn, and not cropped: the pipeline's own default.
    """

    architecture = SDXL.architecture

    def __init__(self, pipeline: diffusers.StableDiffusionXLPipeline, spec: ModelSpec) -> None:
        encoders = {
            "clip_l": TextEncoder(pipeline.text_encoder, pipeline.tokenizer, spec),
            "clip_g": TextEncoder(pipeline.text_encoder_2, pipeline.tokenizer_2, spec),
        }
        texts = TextEncoders(encoders, spec.encoders, tuple(encoders))
        super().__init__(pipeline, _UNet(pipeline.unet), texts, spec)
        self._second = int(pipeline.text_encoder_2.config.hidden_size)
        self._pooled = int(pipeline.text_encoder_2.config.projection_dim)
        self._zeros_for_empty = bool(pipeline.config.force_zeros_for_empty_prompt)

    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """Tokens and pooled prompt, as ``StableDiffusionXLPipeline.encode_prompt`` puts them."""
        reads = {"clip_l": penultimate, "clip_g": tokens_and_pooled}
        found = self.texts.encode(prompts, words, reads)
        tokens = found["clip_g"][:, :-1, : self._second]
        return joined(torch.cat([found["clip_l"], tokens], 2), found["clip_g"][:, -1:])

    @cached_property
    def _unconditional(self) -> Hidden:
        """The empty prompt, or zeros where the model was trained on them."""
        empty = self.condition([""])
        return torch.zeros_like(empty) if self._zeros_for_empty else empty

    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        """The prediction (epsilon or v, see ``process``) for each item of the batch."""
        size = [self.size, self.size, 0, 0, self.size, self.size]  # original, crop, target
        time_ids = torch.tensor(size, dtype=torch.float32)
        return self._denoise(
            latents,
            self.process.timestep(t),
            hidden[:, :-1],
            hidden[:, -1, : self._pooled],
            time_ids.expand(len(latents), -1),
        )
