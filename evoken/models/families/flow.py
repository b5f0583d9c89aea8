"""What the models that are rectified flows share: their process and how they draw."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from evoken.arrays import Hidden, Images, Latents, NoiseLevels
from evoken.errors import SettingError
from evoken.libraries import diffusers
from evoken.models.encoders import TextEncoders
from evoken.models.families.latent import LatentModel
from evoken.models.sampling import GUIDANCE, STEPS
from evoken.process import RectifiedFlow
from evoken.spec import ModelSpec

# Looked up while a model is loaded: notices are kept back then.
_calculate_shift = diffusers.pipelines.flux.pipeline_flux.calculate_shift


class Transformer(nn.Module):
    """A denoiser of diffusers as a function of tensors: what goes in and comes out is its family's,
    in ``forward``.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer


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
        scheduler: Any = diffusers.FlowMatchEulerDiscreteScheduler.from_config(
            self.scheduler.config
        )
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
        mu: float = _calculate_shift(
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


class ReadsGuidance(FlowModel):
    """A flow that was distilled from guided predictions (Meng et al. 2023): guidance is an input of
    its denoiser, and a guided prediction is one call. ``denoise`` says 1.
    """

    guidance_calls = 1

    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        """The velocity for each item of the batch, without guidance."""
        return self._told(latents, t, hidden, 1.0)

    def guided(
        self,
        latents: Latents,
        t: NoiseLevels,
        hidden: Hidden,
        guidance: float,
        negative: Hidden | None = None,
    ) -> Latents:
        """The velocity that the model predicts when it is told this guidance.

        Raises:
            SettingError: a negative prompt, which a distilled model has no use for.
        """
        if negative is not None:
            raise SettingError(
                "this model reads its guidance and no `negative` prompt.", "Leave out `negative`."
            )
        return self._told(latents, t, hidden, guidance)

    @abstractmethod
    def _told(self, latents: Latents, t: NoiseLevels, hidden: Hidden, guidance: float) -> Latents:
        """The denoiser's prediction for each item, told this guidance."""
