"""Stage 1: the autoencoder (diffusers ``AutoencoderKL``), 64 px pictures to 16 x 8 x 8 latents."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from stickers import training
from stickers.data import Dataset

LATENT_CHANNELS = 16
# Costs about 0.2 dB and keeps latents from carrying detail finer than a denoiser can draw.
KL_WEIGHT = 1e-3
LOG_VARIANCE = -12.0  # of the finished encoder's posterior; latents have variance 1
SETTINGS = training.Settings(samples=44_000, batch=16, learning_rate=2e-3)


def build() -> AutoencoderKL:
    """F = 8. Narrow where the picture is large: on a CPU that is where the time goes.

    Few groups per norm, because a group of one channel would throw that channel's mean away; and
    residual blocks that begin as the identity, so that training starts from a linear autoencoder.
    """
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 48, 96, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    for block in model.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.zeros_(block.conv2.weight)
    return model


def to_images(pixels: np.ndarray, device: torch.device) -> Tensor:
    """uint8 N x H x W x 3 to images, float32 N x 3 x H x W in [-1, 1]."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def train(dataset: Dataset, folder: Path, device: torch.device, minutes: float) -> AutoencoderKL:
    """Reconstruction (squared and absolute error) with a light KL term."""

    def loss(model: nn.Module, generator: torch.Generator, batch: int) -> training.Loss:
        index = torch.randint(len(dataset), (batch,), generator=generator).numpy()
        images = to_images(dataset.pixels[np.sort(index)], device)
        posterior = model.encode(images).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        noise = torch.randn(mean.shape, generator=generator).to(device)
        out = model.decode(mean + noise * torch.exp(0.5 * logvar)).sample.float()
        square = F.mse_loss(out, images)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        figures = {"psnr": 10 * float(torch.log10(4 / square.detach())), "kl": float(kl.detach())}
        return square + 0.1 * F.l1_loss(out, images) + KL_WEIGHT * kl, figures

    model = build()
    training.train("autoencoder", model, loss, SETTINGS, folder, device, minutes)
    whiten(model, dataset, device)
    fix_variance(model)
    return model


@torch.no_grad()
def whiten(model: AutoencoderKL, dataset: Dataset, device: torch.device) -> None:
    """Fold into the 1 x 1 convolutions around the latents what gives every channel mean 0 and
    variance 1, so that ``scaling_factor`` is 1 and no channel drowns in the noise before others.
    """
    blocks = range(0, min(len(dataset), 4096), 256)
    mean = torch.cat(
        [
            model.encode(to_images(dataset.pixels[i : i + 256], device)).latent_dist.mean
            for i in blocks
        ]
    )
    shift, scale = mean.mean((0, 2, 3)), mean.std((0, 2, 3))
    into, out = model.quant_conv, model.post_quant_conv
    out.bias += out.weight[:, :, 0, 0] @ shift
    out.weight *= scale[None, :, None, None]
    into.weight[:LATENT_CHANNELS] /= scale[:, None, None, None]
    into.bias[:LATENT_CHANNELS] = (into.bias[:LATENT_CHANNELS] - shift) / scale


@torch.no_grad()
def fix_variance(model: AutoencoderKL) -> None:
    """Give the posterior one small variance everywhere; its mean stays as it is, bit for bit.

    Public training scripts sample the posterior. Training gives a channel that the decoder ignores
    a variance of several hundred, and the denoiser is trained on means, so to it that is noise.
    """
    model.quant_conv.weight[LATENT_CHANNELS:] = 0
    model.quant_conv.bias[LATENT_CHANNELS:] = LOG_VARIANCE
