"""Noise processes: how data becomes noise, and what the denoiser is asked to predict.

``t`` in [0, 1] is the share of the process's own schedule: 0 = data, 1 = noise.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from evoken.arrays import Latents, NoiseLevels
from evoken.errors import ModelError, shown


class Process(Protocol):
    """A noise process.

    Its deterministic sampler is an ordinary differential equation dx/ds = slope, s from the noise's
    level down to 0 at the data, in which x is the latents over a scale: what diffusion calls DDIM
    (Song et al. 2021) is Euler's method in it, as it is for a flow.
    """

    def timestep(self, t: NoiseLevels) -> Tensor:
        """What the denoiser is told of t."""

    def add_noise(self, latents: Latents, noise: Latents, t: NoiseLevels) -> Latents:
        """Latents at t."""

    def target(self, latents: Latents, noise: Latents, t: NoiseLevels) -> Latents:
        """What a perfect denoiser returns."""

    def data(self, noisy: Latents, predicted: Latents, t: NoiseLevels) -> Latents:
        """The estimate of the data that a prediction at t implies."""

    def level(self, t: NoiseLevels) -> Tensor:
        """The ODE's s at t; increasing, 0 at the data."""

    def t_of(self, level: float) -> float:
        """The t of an ODE's s, as near as the process has one."""

    def scale(self, level: float) -> float:
        """Latents over the ODE's x at s."""

    def slope(self, noisy: Latents, predicted: Latents, t: NoiseLevels) -> Latents:
        """dx/ds at latents ``noisy`` of which the denoiser said ``predicted``."""


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
            raise ModelError(
                f"a model must predict epsilon or v (got {shown(self.prediction)}).",
                "Use another model.",
            )

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

    def level(self, t: NoiseLevels) -> Tensor:
        """The ratio of noise to signal, s = sqrt((1 - a_t) / a_t)."""
        return self._levels[self.timestep(t)]

    @cached_property
    def _levels(self) -> Tensor:
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()

    def t_of(self, level: float) -> float:
        """The middle of the discrete level that is nearest."""
        return (float((self._levels - level).abs().argmin()) + 0.5) / len(self._levels)

    def scale(self, level: float) -> float:
        """sqrt(a_t) = (1 + s^2)^(-1/2): x = z / sqrt(a_t) (Song et al. 2021, Eq. 14)."""
        return float((1 + level**2) ** -0.5)

    def slope(self, noisy: Latents, predicted: Latents, t: NoiseLevels) -> Latents:
        """The predicted epsilon; from v, eps = sqrt(1 - a_t) z + sqrt(a_t) v."""
        if self.prediction == "epsilon":
            return predicted
        signal, sigma = self._signal_and_noise(t)
        return sigma * noisy + signal * predicted


@dataclass(frozen=True)
class RectifiedFlow:
    """Straight lines between data and noise (Liu et al. 2023); the denoiser predicts the velocity.

    Attributes:
        levels: the denoiser is told t times this.
    """

    levels: int = 1000

    def timestep(self, t: NoiseLevels) -> Tensor:
        """The denoiser's own number for t."""
        return t * self.levels

    def add_noise(self, latents: Latents, noise: Latents, t: NoiseLevels) -> Latents:
        """z_t = (1 - t) z_0 + t eps."""
        return torch.lerp(latents, noise, t[:, None, None, None])

    def target(self, latents: Latents, noise: Latents, t: NoiseLevels) -> Latents:
        """The velocity, v = eps - z_0."""
        return noise - latents

    def data(self, noisy: Latents, predicted: Latents, t: NoiseLevels) -> Latents:
        """z_t - t v."""
        return noisy - t[:, None, None, None] * predicted

    def level(self, t: NoiseLevels) -> Tensor:
        """The ODE's s is t itself."""
        return t

    def t_of(self, level: float) -> float:
        """The same: s is t."""
        return level

    def scale(self, level: float) -> float:
        """1, for the ODE's x is the latents."""
        return 1.0

    def slope(self, noisy: Latents, predicted: Latents, t: NoiseLevels) -> Latents:
        """The velocity."""
        return predicted
