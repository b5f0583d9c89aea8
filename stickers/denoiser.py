"""Stage 4: the denoiser (diffusers ``UNet2DConditionModel``), epsilon prediction on latents."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from stickers import training
from stickers.autoencoder import LATENT_CHANNELS, to_images
from stickers.clip import WIDTH, tokenize
from stickers.data import Dataset

SETTINGS = training.Settings(
    samples=760_000,
    batch=256,
    learning_rate=2e-3,
    warmup_steps=200,
    cooldown=0.4,
    ema_decay=0.999,
)
# For trained weights that go on: a lower peak, falling from the start.
CONTINUED = replace(SETTINGS, samples=480_000, learning_rate=1e-3, cooldown=1.0, ema_decay=0.998)
P_NO_CAPTION = 0.1
SNR_GAMMA = 5.0


def build() -> UNet2DConditionModel:
    """Two resolutions: a light one of 8 x 8, and 4 x 4, where most weights and all attention are,
    because a weight costs a quarter there. What the caption says as a whole also scales and shifts
    every residual block, through the embedding of the noise level: objects form much sooner than
    with cross-attention alone.
    """
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(96, 192),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 3),
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )


def noise_schedule() -> DDPMScheduler:
    """Stable Diffusion's: 1,000 levels, scaled linear."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
    )


@torch.no_grad()
def encode_latents(
    dataset: Dataset, vae: AutoencoderKL, folder: Path, device: torch.device
) -> None:
    """Write ``latents.npy``: the means of every picture's latents, float16."""

    def encode(rows: slice) -> Tensor:
        return vae.encode(to_images(dataset.pixels[rows], device)).latent_dist.mean

    shape = (len(dataset), LATENT_CHANNELS, 8, 8)
    write_rows(folder / "latents.npy", shape, encode, device)


@torch.no_grad()
def encode_captions(
    dataset: Dataset,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
    device: torch.device,
) -> None:
    """Write ``features.npy``: what the text encoder makes of "" and of every caption, float16."""
    ids = tokenize(tokenizer, ["", *dataset.captions], full=True).to(device)

    def encode(rows: slice) -> Tensor:
        return text_encoder(ids[rows]).last_hidden_state

    write_rows(folder / "features.npy", (*ids.shape, WIDTH), encode, device)


def write_rows(
    path: Path, shape: tuple[int, ...], encode: Callable[[slice], Tensor], device: torch.device
) -> None:
    """Write an array of float16 row by row, unless it is there."""
    if path.exists():
        return
    partial = path.with_suffix(".partial")
    rows = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for i in range(0, shape[0], 250):
        with torch.autocast(device.type, torch.bfloat16):
            block = encode(slice(i, i + 250))
        rows[i : i + 250] = block.float().cpu().numpy()
        if i % 25_000 == 0:
            print(f"{path.name}: {i:,} of {shape[0]:,} rows", flush=True)
    rows.flush()
    partial.rename(path)


@dataclass(frozen=True)
class Batch:
    """What a denoiser's training step draws; n samples.

    Attributes:
        clean: n x C x h x w latents.
        noise: as many.
        captions: n rows of the text features, where row 0 is no caption.
        spread: n numbers that cover [0, 1] evenly, in random order, for the noise levels.
    """

    clean: Tensor
    noise: Tensor
    captions: np.ndarray
    spread: Tensor


def draw_batch(latents: np.ndarray, batch: int, generator: torch.Generator) -> Batch:
    """Draw samples, a tenth of them without caption for classifier-free guidance (Ho & Salimans
    2022).
    """
    index = torch.randint(len(latents), (batch,), generator=generator).sort().values
    dropped = torch.rand(batch, generator=generator) < P_NO_CAPTION
    clean = torch.from_numpy(latents[index.numpy()]).float()
    noise = torch.randn(clean.shape, generator=generator)
    spread = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    order = torch.randperm(batch, generator=generator)
    return Batch(clean, noise, torch.where(dropped, 0, index + 1).numpy(), spread[order])


def train(
    folder: Path, device: torch.device, minutes: float, settings: training.Settings = SETTINGS
) -> UNet2DConditionModel:
    """DDPM epsilon loss (Ho et al. 2020) weighted by min-SNR (Hang et al. 2023)."""
    latents = np.load(folder / "latents.npy", mmap_mode="r")
    features = np.load(folder / "features.npy", mmap_mode="r")
    alphas = noise_schedule().alphas_cumprod.to(device)

    def loss(model: nn.Module, generator: torch.Generator, batch: int) -> training.Loss:
        drawn = draw_batch(latents, batch, generator)
        clean, noise = drawn.clean.to(device), drawn.noise.to(device)
        text = torch.from_numpy(features[drawn.captions]).to(device).float()
        t = (drawn.spread * 1000).long().to(device)
        signal = alphas[t][:, None, None, None]
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        predicted = model(noisy, t, encoder_hidden_states=text).sample.float()
        error = (predicted - noise).square().mean((1, 2, 3))
        snr = alphas[t] / (1 - alphas[t])
        value = (error * (SNR_GAMMA / snr).clamp(max=1)).mean()
        return value, {"error": float(error.detach().mean())}

    model = build()
    model.set_attn_processor(AttnProcessor())  # 16 tokens: the fused backward pass is slower
    training.train("denoiser", model, loss, settings, folder, device, minutes)
    return model
