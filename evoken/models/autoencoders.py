"""Autoencoders, whatever their class: how pictures become the latents that a denoiser reads."""

from typing import Any

import torch
from torch import Tensor

from evoken.arrays import Images, Latents
from evoken.errors import ModelError


class Autoencoder:
    """An ``AutoencoderKL`` of diffusers, whose latents are shifted and scaled by one number each.

    Scaling is done where the latents are, on the processor: there it is the same for every device.

    Attributes:
        module: the autoencoder itself.
        threads: whether several threads may use it at once.
    """

    threads = True

    def __init__(self, module: Any) -> None:
        """
        Raises:
            ModelError: its latents have a mean and a scale for each channel.
        """
        self.module, self.config = module, module.config
        if self.config.get("latents_mean") is not None:
            raise ModelError(
                "the model's autoencoder must have one scale for its latents (got a mean and a "
                "scale for each channel).",
                "Use another model.",
            )

    @property
    def factor(self) -> int:
        """Pixels to a latent, along a side."""
        return int(2 ** (len(self.config["block_out_channels"]) - 1))

    @property
    def channels(self) -> int:
        """Of the latents that the denoiser reads."""
        return int(self.config["latent_channels"])

    def encode(self, images: Images) -> Latents:
        """The means of the posterior, not yet scaled."""
        found: Latents = self.module.encode(images).latent_dist.mode()
        return found

    def decode(self, latents: Latents) -> Images:
        """Pictures of latents that are no longer scaled."""
        found: Images = self.module.decode(latents).sample
        return found

    def scaled(self, latents: Latents) -> Latents:
        """As the denoiser reads them."""
        return (latents - self._shift) * self.config["scaling_factor"]

    def unscaled(self, latents: Latents) -> Latents:
        """As they are decoded."""
        return latents / self.config["scaling_factor"] + self._shift

    @property
    def _shift(self) -> float:
        return float(self.config.get("shift_factor") or 0.0)


class DeepAutoencoder(Autoencoder):
    """SANA's ``AutoencoderDC`` (Chen et al. 2025): 32 pixels to a latent, and no posterior."""

    @property
    def factor(self) -> int:
        """Pixels to a latent, along a side."""
        return int(2 ** (len(self.config["encoder_block_out_channels"]) - 1))

    def encode(self, images: Images) -> Latents:
        """The latents, not yet scaled."""
        found: Latents = self.module.encode(images).latent
        return found


class VideoAutoencoder(Autoencoder):
    """Qwen-Image's ``AutoencoderKLQwenImage``, made for videos: a picture is one frame, and its
    latents have a mean and a scale for each channel.
    """

    threads = False  # it keeps what its layers saw last

    def __init__(self, module: Any) -> None:
        self.module, self.config = module, module.config

    @property
    def factor(self) -> int:
        """Pixels to a latent, along a side."""
        return int(2 ** len(self.config["temperal_downsample"]))  # as diffusers spells it

    @property
    def channels(self) -> int:
        """Of the latents that the denoiser reads."""
        return int(self.config["z_dim"])

    def encode(self, images: Images) -> Latents:
        """The means of the posterior, not yet scaled."""
        return super().encode(images[:, :, None])[:, :, 0]

    def decode(self, latents: Latents) -> Images:
        """Pictures of latents that are no longer scaled."""
        return super().decode(latents[:, :, None])[:, :, 0]

    def scaled(self, latents: Latents) -> Latents:
        """As the denoiser reads them."""
        return (latents - self._each("latents_mean")) / self._each("latents_std")

    def unscaled(self, latents: Latents) -> Latents:
        """As they are decoded."""
        return latents * self._each("latents_std") + self._each("latents_mean")

    def _each(self, name: str) -> Tensor:
        return torch.tensor(self.config[name])[:, None, None]


class PatchedAutoencoder(Autoencoder):
    """FLUX.2's ``AutoencoderKLFlux2``: the denoiser reads squares of 2 x 2 latents as channels of
    one, each with the mean and the variance that a batch norm found in training.
    """

    @property
    def factor(self) -> int:
        """Pixels to a square of latents, along a side."""
        return super().factor * 2

    @property
    def channels(self) -> int:
        """Of the latents that the denoiser reads."""
        return super().channels * 4

    def encode(self, images: Images) -> Latents:
        """The means of the posterior in squares, not yet scaled."""
        found = super().encode(images)
        count, channels, height, width = found.shape
        squares = found.reshape(count, channels, height // 2, 2, width // 2, 2)
        return squares.permute(0, 1, 3, 5, 2, 4).reshape(count, -1, height // 2, width // 2)

    def decode(self, latents: Latents) -> Images:
        """Pictures of squares of latents that are no longer scaled."""
        count, channels, height, width = latents.shape
        squares = latents.reshape(count, channels // 4, 2, 2, height, width)
        return super().decode(
            squares.permute(0, 1, 4, 2, 5, 3).reshape(count, -1, 2 * height, 2 * width)
        )

    def scaled(self, latents: Latents) -> Latents:
        """As the denoiser reads them."""
        mean, deviation = self._statistics()
        return (latents - mean) / deviation

    def unscaled(self, latents: Latents) -> Latents:
        """As they are decoded."""
        mean, deviation = self._statistics()
        return latents * deviation + mean

    def _statistics(self) -> tuple[Tensor, Tensor]:
        norm = self.module.bn
        variance = norm.running_var.float().cpu() + self.config["batch_norm_eps"]
        return norm.running_mean.float().cpu()[:, None, None], variance.sqrt()[:, None, None]


PLAIN = "AutoencoderKL"
KINDS = {
    PLAIN: Autoencoder,
    "AutoencoderDC": DeepAutoencoder,
    "AutoencoderKLFlux2": PatchedAutoencoder,
    "AutoencoderKLQwenImage": VideoAutoencoder,
}


def autoencoder_of(module: Any) -> Autoencoder:
    """A pipeline's autoencoder, by its class.

    Raises:
        ModelError: it is none of KINDS, or its latents have a scale for each channel where one for
            all is expected.
    """
    name = type(module).__name__
    if name not in KINDS:
        raise ModelError(
            f"the model's autoencoder must be of one of the classes {', '.join(KINDS)} (got "
            f"{name}).",
            "Use another copy of the model.",
        )
    return KINDS[name](module)
