"""What all models on latents share: the autoencoder, the noise, the count of calls."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evoken.arrays import Images, Latents
from evoken.models.base import ModelSpec
from evoken.models.batches import UNIT, in_batches, padded
from evoken.models.runtimes.choose import Denoiser, on_runtime
from evoken.models.runtimes.entry import Check
from evoken.models.text import arithmetic

LARGE = 128  # px; from here on the autoencoder takes pictures one at a time, whatever the batch


class LatentModel:
    """A pipeline's autoencoder and denoiser; the families say what the denoiser reads."""

    def __init__(self, vae: Any, denoiser: Any, function: nn.Module, spec: ModelSpec) -> None:
        """
        Args:
            function: the denoiser as a function of tensors alone, which all have a row per item;
                whatever runs a denoiser elsewhere is made from it.
        """
        self.spec, self.calls, self._function = spec, 0, function
        self._running: Denoiser | None = None
        self.check: Check | None = None  # of the runtime, once it was compared with torch
        self.device = torch.device(spec.device)
        self.vae, self.denoiser = vae, denoiser
        for part in (vae, denoiser):
            part.to(self.device).eval().requires_grad_(False)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return int(self.denoiser.config.sample_size * factor)

    @property
    def _shift(self) -> float:
        return float(self.vae.config.shift_factor or 0.0)

    @torch.no_grad()
    def encode(self, images: Images) -> Latents:
        """Latents of images: the mean of the autoencoder's posterior, scaled for the denoiser."""
        found = self._pictures(
            lambda x: self.vae.encode(x).latent_dist.mode(), images.to(self.device)
        )
        return (found.clone() - self._shift) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        """Images of latents."""
        found = self._pictures(
            lambda x: self.vae.decode(x).sample,
            latents / self.vae.config.scaling_factor + self._shift,
        )
        return found.clamp(-1, 1)

    def _pictures(self, function: Callable[..., Tensor], rows: Tensor) -> Tensor:
        """The autoencoder's part in batches. Of large pictures one fills the machine, and sixteen
        would be the most memory that a run ever needs.
        """
        if self.size >= LARGE:
            return in_batches(function, 1, rows, unit=1)
        return in_batches(function, self.spec.batch, rows)

    def noise(self, seeds: Sequence[int]) -> Latents:
        """One starting noise per seed, the same whatever stands beside it."""
        side = self.denoiser.config.sample_size
        shape = (1, self.denoiser.config.in_channels, side, side)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.cat(rows).to(self.device)

    @torch.no_grad()
    def _denoise(self, *inputs: Tensor) -> Latents:
        """The denoiser in batches, every item counted as a call."""
        if self._running is None:
            self._running, self.check = on_runtime(
                self.spec, self._function, [padded(x[:UNIT]) for x in inputs]
            )
        self.calls += len(inputs[0])
        with arithmetic(self.spec):
            return in_batches(self._running, self.spec.batch, *inputs).float()
