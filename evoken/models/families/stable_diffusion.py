"""Stable Diffusion 1.x and 2.x, and every model of the same classes (the sticker models too)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from evoken.arrays import NO_WORDS, Hidden, Latents, NoiseLevels, Words
from evoken.libraries import diffusers
from evoken.models.bases import SD1, like
from evoken.models.encoders import TextEncoders
from evoken.models.families.diffusion import DiffusionModel
from evoken.models.text import TextEncoder
from evoken.spec import ModelSpec


class _UNet(nn.Module):
    """The denoiser as a function of tensors."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, hidden: Tensor) -> Tensor:
        out: Tensor = self.unet(latents, timestep, hidden).sample
        return out


class StableDiffusion(DiffusionModel):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``."""

    def __init__(self, pipeline: diffusers.StableDiffusionPipeline, spec: ModelSpec) -> None:
        self.text = TextEncoder(pipeline.text_encoder, pipeline.tokenizer, spec)
        self._name = next(iter(like(SD1, self.text.width).widths))
        texts = TextEncoders({self._name: self.text}, spec.encoders, (self._name,))
        super().__init__(pipeline, _UNet(pipeline.unet), texts, spec)

    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """The text encoder's last hidden state."""
        reads = {self._name: lambda out: out.last_hidden_state}
        return self.texts.encode(prompts, words, reads)[self._name]

    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        """The prediction (epsilon or v, see ``process``) for each item of the batch."""
        return self._denoise(latents, self.process.timestep(t), hidden)
