"""What the models that are rectified flows share: their process and how they draw."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import nn

from evoken.arrays import Hidden, Images
from evoken.models.encoders import TextEncoders
from evoken.models.families.latent import LatentModel
from evoken.models.sampling import GUIDANCE, STEPS
from evoken.process import RectifiedFlow
from evoken.spec import ModelSpec


class FlowModel(LatentModel):
    """A model with a transformer that predicts the velocity."""

    def __init__(
        self,
        pipeline: Any,
        function: nn.Module,
        texts: TextEncoders,
        spec: ModelSpec,
        side: int,
        patch: int,
        from_one: bool = False,
    ) -> None:
        """
        Args:
            from_one: sampling takes even steps from 1 down to 1 / steps, before the scheduler's
                shift; else the scheduler's own steps.
        """
        transformer = pipeline.transformer
        super().__init__(pipeline.vae, transformer, function, texts, spec, side, patch)
        self.scheduler, self._from_one = pipeline.scheduler, from_one
        self.process = RectifiedFlow(self.scheduler.config.num_train_timesteps)

    def schedule(self, steps: int) -> list[float]:
        """The scheduler's own noise levels, with its shift for pictures of this size if it has one
        that depends on it.
        """
        scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler.config)
        found: dict[str, Any] = {"num_inference_steps": steps}
        if self._from_one:
            found["sigmas"] = np.linspace(1.0, 1 / steps, steps)
        config = scheduler.config
        if config.use_dynamic_shifting:
            found["mu"] = self._shift(config, (self._side // self._patch) ** 2, steps)
        scheduler.set_timesteps(**found)
        return [float(s) for s in scheduler.sigmas]

    def _shift(self, config: Any, tokens: int, steps: int) -> float:
        """The scheduler's mu for pictures of so many tokens."""
        mu: float = calculate_shift(
            tokens,
            config.base_image_seq_len,
            config.max_image_seq_len,
            config.base_shift,
            config.max_shift,
        )
        return mu

    @torch.no_grad()
    def generate(
        self,
        hidden: Hidden,
        seeds: Sequence[int],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        negative: Hidden | None = None,
    ) -> Images:
        """Euler's method on the scheduler's noise levels."""
        latents = self.noise(seeds)
        for level, lower in pairwise(self.schedule(steps)):
            t = torch.full((len(hidden),), level)
            latents = latents + (lower - level) * self.guided(
                latents, t, hidden, guidance, negative
            )
        return self.decode(latents)
