"""Stage 4: the denoiser (diffusers ``UNet2DConditionModel``), epsilon prediction on latents."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from stickers import training
from stickers.autoencoder import LATENT_CHANNELS, to_images
from stickers.clip import WIDTH, tokenize
from stickers.data import Dataset

SETTINGS = training.Settings(
    samples=1_500_000,
    batch=128,
    learning_rate=8e-4,
    warmup_steps=500,
    cooldown=0.2,
    ema_decay=0.9995,
)
P_NO_CAPTION = 0.1
SNR_GAMMA = 5.0


def build() -> UNet2DConditionModel:
    """Two resolutions, 8 x 8 and 4 x 4, attention to the caption at both."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(112, 224),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=(4, 8),
        norm_num_groups=16,
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
def encode_dataset(
    dataset: Dataset,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
    device: torch.device,
) -> None:
    """Write latents (mean), text features of every caption and of "" as float16 arrays."""
    if (folder / "encoded").exists():
        return
    count = len(dataset)
    open_file = np.lib.format.open_memmap
    latents = open_file(folder / "latents.npy", "w+", np.float16, (count, LATENT_CHANNELS, 8, 8))
    ids = tokenize(tokenizer, ["", *dataset.captions], full=True)
    shape = (count + 1, ids.shape[1], WIDTH)
    features = open_file(folder / "features.npy", "w+", np.float16, shape)
    for i in range(0, count, 250):
        with torch.autocast(device.type, torch.bfloat16):
            images = to_images(dataset.pixels[i : i + 250], device)
            latents[i : i + 250] = vae.encode(images).latent_dist.mean.half().cpu().numpy()
    for i in range(0, count + 1, 250):
        with torch.autocast(device.type, torch.bfloat16):
            hidden = text_encoder(ids[i : i + 250].to(device)).last_hidden_state
        features[i : i + 250] = hidden.half().cpu().numpy()
    latents.flush()
    features.flush()
    (folder / "encoded").touch()


def train(folder: Path, device: torch.device, minutes: float) -> UNet2DConditionModel:
    """DDPM epsilon loss (Ho et al. 2020) weighted by min-SNR (Hang et al. 2023), captions dropped
    in a tenth of the samples for classifier-free guidance (Ho & Salimans 2022).
    """
    latents = np.load(folder / "latents.npy", mmap_mode="r")
    features = np.load(folder / "features.npy", mmap_mode="r")
    alphas = noise_schedule().alphas_cumprod.to(device)

    def loss(model: nn.Module, generator: torch.Generator, batch: int) -> training.Loss:
        index = torch.randint(len(latents), (batch,), generator=generator).sort().values
        dropped = torch.rand(batch, generator=generator) < P_NO_CAPTION
        rows = torch.where(dropped, 0, index + 1).numpy()
        clean = torch.from_numpy(latents[index.numpy()]).to(device).float()
        text = torch.from_numpy(features[rows]).to(device).float()
        noise = torch.randn(clean.shape, generator=generator).to(device)
        # Stratified: the noise levels of a batch cover the schedule evenly.
        spread = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        order = torch.randperm(batch, generator=generator)
        t = (spread[order] * 1000).long().to(device)
        signal = alphas[t][:, None, None, None]
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        predicted = model(noisy, t, encoder_hidden_states=text).sample.float()
        error = (predicted - noise).square().mean((1, 2, 3))
        snr = alphas[t] / (1 - alphas[t])
        value = (error * (SNR_GAMMA / snr).clamp(max=1)).mean()
        return value, {"error": float(error.detach().mean())}

    model = build()
    training.train("denoiser", model, loss, SETTINGS, folder, device, minutes)
    return model
