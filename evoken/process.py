"""Noise processes: how data becomes noise, and what the denoiser is asked to predict.

``t`` in [0, 1] is the share of the process's own schedule: 0 = data, 1 = noise.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from evoken.arrays import Latents, NoiseLevels
from evoken.errors import ModelError


@dataclass(frozen=True)
class DDPM:
    """Discrete variance-preserving diffusion (Ho et al. 2020), predicting epsilon or v.

    Attributes:
        alphas_cumprod: T values, the share of signal variance left at each level.
        prediction: "epsilon", or "v_prediction" (Salimans & Ho 2022).
    """

    alphas_cumprod: Tensor
    prediction: str = "epsilon"

    def __post_init__(self) -> None:
        if self.prediction not in ("epsilon", "v_prediction"):
            raise ModelError("a model that predicts epsilon or v", repr(self.prediction),
                             "Use another model.")  # fmt: skip

    def timestep(self, t: NoiseLevels) -> Tensor:
        """The index, 0 .. T - 1, of the discrete level that t in [0, 1] falls in."""
        levels = len(self.alphas_cumprod)
        return (t * levels).long().clamp(0, levels - 1)

    def _signal_and_noise(self, t: NoiseLevels) -> tuple[Tensor, Tensor]:
        signal = self.alphas_cumprod[self.timestep(t)][:, None, None, None]
        return signal.sqrt(), (1 - signal).sqrt()

    def add_noise(self, latents: Latents, noise: Latents, t: NoiseLevels) -> Latents:
        """z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) eps."""
        signal, sigma = self._signal_and_noise(t)
        return signal * latents + sigma * noise

    def target(self, latents: Latents, noise: Latents, t: NoiseLevels) -> Latents:
        """What a perfect denoiser returns: eps, or v = sqrt(a_t) eps - sqrt(1 - a_t) z_0."""
        if self.prediction == "epsilon":
            return noise
        signal, sigma = self._signal_and_noise(t)
        return signal * noise - sigma * latents

    def data(self, noisy: Latents, predicted: Latents, t: NoiseLevels) -> Latents:
        """The estimate of z_0 that a prediction at z_t implies."""
        signal, sigma = self._signal_and_noise(t)
        if self.prediction == "epsilon":
            return (noisy - sigma * predicted) / signal
        return signal * noisy - sigma * predicted


def from_betas(betas: Tensor, prediction: str) -> DDPM:
    """The process of a schedule of noise variances."""
    return DDPM(torch.cumprod(1 - betas.float(), 0), prediction)
