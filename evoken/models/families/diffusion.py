"""What the models that are discrete diffusions share: their process and how they draw."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from evoken.arrays import Hidden, Images
from evoken.errors import ModelError, SettingError, shown
from evoken.models.encoders import TextEncoders
from evoken.models.families.latent import LatentModel
from evoken.models.families.solver import dpm_solver
from evoken.models.sampling import GUIDANCE, STEPS
from evoken.process import DDPM
from evoken.spec import ModelSpec


class DiffusionModel(LatentModel):
    """A model with a U-Net that predicts epsilon or v."""

    process: DDPM

    def __init__(
        self, pipeline: Any, function: nn.Module, texts: TextEncoders, spec: ModelSpec
    ) -> None:
        side = pipeline.unet.config.sample_size
        super().__init__(pipeline.vae, pipeline.unet, function, texts, spec, side)
        self.scheduler = pipeline.scheduler
        if not hasattr(self.scheduler, "alphas_cumprod"):
            found = type(self.scheduler).__name__
            raise ModelError(
                f"the model's scheduler must be one of discrete diffusion (got {found}).",
                "Use another model.",
            )
        solver = dpm_solver(self.scheduler)
        left = solver.alphas_cumprod
        if not bool(((left > 0) & (left <= 1)).all() and (left.diff() <= 0).all()):
            raise ModelError(
                "the noise levels of the model's scheduler must rise from none to all "
                f"(beta_start {shown(self.scheduler.config.beta_start)}, beta_end "
                f"{shown(self.scheduler.config.beta_end)}).",
                "Use another copy of the model.",
            )
        self.process = DDPM(left, self.scheduler.config.prediction_type)

    def schedule(self, steps: int) -> list[float]:
        """DDIM's levels (Song et al. 2021), evenly spaced from the noisiest, the "trailing" ones of
        Lin et al. 2024.
        """
        count = len(self.process.alphas_cumprod)
        last = (torch.arange(steps, 0, -1) * count / steps).round() - 1
        return [*self.process.level((last + 0.5) / count).tolist(), 0.0]

    @torch.no_grad()
    def generate(
        self,
        hidden: Hidden,
        seeds: Sequence[int],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        negative: Hidden | None = None,
    ) -> Images:
        """DPM-Solver++ 2M (Lu et al. 2022) on the model's own schedule."""
        levels = len(self.process.alphas_cumprod)
        if steps > levels // 2:  # nearer to one another, noise levels are as good as equal
            raise SettingError(
                f"`steps` must be at most {levels // 2} for a model with {levels} noise levels "
                f"(got {steps})."
            )
        scheduler = dpm_solver(self.scheduler)
        scheduler.set_timesteps(steps)
        latents = self.noise(seeds) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            inputs = scheduler.scale_model_input(latents, timestep)
            t = torch.full((len(inputs),), (float(timestep) + 0.5) / levels)
            predicted = self.guided(inputs, t, hidden, guidance, negative)
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        return self.decode(latents)
