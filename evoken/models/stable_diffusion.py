"""Stable Diffusion 1.x and 2.x, and every model of the same classes (the sticker models too)."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from torch import Tensor, nn

from evoken.arrays import Hidden, Images, Latents, NoiseLevels, Vectors
from evoken.models.base import ModelSpec, Vocabulary
from evoken.models.guidance import guided
from evoken.models.latent import LatentModel
from evoken.models.text import TextEncoder
from evoken.process import from_betas


class _UNet(nn.Module):
    """The denoiser as a function of tensors."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, hidden: Tensor) -> Tensor:
        out: Tensor = self.unet(latents, timestep, hidden).sample
        return out


class StableDiffusion(LatentModel):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``."""

    def __init__(self, pipeline: StableDiffusionPipeline, spec: ModelSpec) -> None:
        super().__init__(pipeline.vae, pipeline.unet, _UNet(pipeline.unet), spec)
        self.text = TextEncoder(pipeline.text_encoder, pipeline.tokenizer, spec)
        self.scheduler = pipeline.scheduler
        betas = DPMSolverMultistepScheduler.from_config(self.scheduler.config).betas
        self.process = from_betas(betas, self.scheduler.config.prediction_type)

    @property
    def width(self) -> int:
        """Length of a token embedding."""
        return self.text.width

    @property
    def encoders(self) -> dict[str, int]:
        """Stable Diffusion 2's is OpenCLIP H."""
        return {"clip_h" if self.width == 1024 else "clip_l": self.width}

    @property
    def architecture(self) -> str:
        """None: a word's width tells 1.x from 2.x."""
        return ""

    def vocabulary(self) -> Vocabulary:
        """The words that embeddings can be borrowed from."""
        return self.text.vocabulary()

    def embed(self, phrase: str) -> Vectors:
        """Token x width: the embeddings of the phrase's tokens."""
        return self.text.embed(phrase)

    def has_token(self, placeholder: str) -> bool:
        """Whether the placeholder is already a token of the tokenizer."""
        return self.text.has_token(placeholder)

    @property
    def prompt_room(self) -> int:
        """Most tokens of a prompt that are read, without start and end."""
        return self.text.prompt_room

    def count_tokens(self, prompt: str) -> int:
        """Length of a prompt in tokens, without start and end."""
        return self.text.count_tokens(prompt)

    def condition(
        self, prompts: Sequence[str], placeholder: str = "", vectors: Vectors | None = None
    ) -> Hidden:
        """The text encoder's last hidden state."""
        return self.text.encode(prompts, placeholder, vectors, lambda out: out.last_hidden_state)

    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        """The prediction (epsilon or v, see ``process``) for each item of the batch."""
        return self._denoise(latents, self.process.timestep(t).to(self.device), hidden)

    def schedule(self, steps: int) -> list[float]:
        """DDIM's levels (Song et al. 2021), evenly spaced from the noisiest, the "trailing" ones of
        Lin et al. 2024.
        """
        count = len(self.process.alphas_cumprod)
        last = (torch.arange(steps, 0, -1) * count / steps).round() - 1
        return [*self.process.level((last + 0.5) / count).tolist(), 0.0]

    @torch.no_grad()
    def generate(
        self, hidden: Hidden, seeds: Sequence[int], steps: int = 25, guidance: float = 5.0
    ) -> Images:
        """DPM-Solver++ 2M (Lu et al. 2022) on the model's own schedule."""
        scheduler: Any = DPMSolverMultistepScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(steps, device=self.device)
        unconditional = self.condition([""])
        latents = self.noise(seeds) * scheduler.init_noise_sigma
        levels = len(self.process.alphas_cumprod)
        for timestep in scheduler.timesteps:
            inputs = scheduler.scale_model_input(latents, timestep)
            t = torch.full((len(inputs),), (float(timestep) + 0.5) / levels)
            predicted = guided(self, inputs, t, unconditional, hidden, guidance)
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        return self.decode(latents)
