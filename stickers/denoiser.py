"""Stage 4: the denoiser (diffusers ``UNet2DConditionModel``), epsilon prediction on latents."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from stickers import training
from stickers.autoencoder import LATENT_CHANNELS
from stickers.clip import WIDTH, tokenize
from stickers.data import Dataset
from stickers.latents import draw_batch, write_rows

SETTINGS = training.Settings(
    samples=760_000,
    batch=256,
    learning_rate=2e-3,
    warmup_steps=200,
    cooldown=0.4,
    ema_decay=0.999,
)
# For trained weights that go on: a lower peak, falling from the start.
CONTINUED = replace(SETTINGS, samples=2_000_000, learning_rate=1e-3)
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
