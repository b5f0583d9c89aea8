"""Stage 5: the flow model (diffusers ``SD3Transformer2DModel``), a rectified flow on latents.

It stands on the other models' autoencoder and text encoder. The text encoder fills both CLIP slots
of ``StableDiffusion3Pipeline``, and there is no T5: what the pipeline puts in its place are zeros.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from stickers import denoiser, training
from stickers.autoencoder import LATENT_CHANNELS
from stickers.clip import WIDTH, tokenize
from stickers.data import Dataset
from stickers.latents import draw_batch, write_rows

SETTINGS = replace(denoiser.SETTINGS, samples=500_000)
CONTINUED = denoiser.CONTINUED
# Zeros in T5's place: the pipeline's default, and none (three times as fast).
T5_LENGTHS = (256, 0)


def build() -> SD3Transformer2DModel:
    """Six narrow blocks on 16 patches of 2 x 2 latents and 32 tokens of text. Every block begins as
    the identity (Peebles & Xie 2023), which diffusers leaves to the training script.
    """
    model = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=6,
        attention_head_dim=48,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=192,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=4,
        qk_norm="rms_norm",
    )
    modulations = [m for k, m in model.named_modules() if "norm" in k and isinstance(m, nn.Linear)]
    for layer in (*modulations, model.proj_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def noise_schedule() -> FlowMatchEulerDiscreteScheduler:
    """Even steps in the noise level: pictures as small as these need no shift."""
    return FlowMatchEulerDiscreteScheduler(shift=1.0)


class PaddedAttention:
    """Joint attention in which the last text token counts as ``zeros`` equal ones.

    The zeros in T5's place are equal tokens and stay so in every block. Many equal keys weigh as
    one does whose logit is larger by the logarithm of their number: training sees what the
    pipeline's 256 zeros do at the cost of one. For short sequences this is also faster backwards
    than fused attention.
    """

    zeros = 1

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None = None,
    ) -> tuple[Tensor, Tensor]:
        def heads(x: Tensor) -> Tensor:
            return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)

        patches, text = hidden_states, encoder_hidden_states
        q = torch.cat(
            [
                attn.norm_q(heads(attn.to_q(patches))),
                attn.norm_added_q(heads(attn.add_q_proj(text))),
            ],
            2,
        )
        k = torch.cat(
            [
                attn.norm_k(heads(attn.to_k(patches))),
                attn.norm_added_k(heads(attn.add_k_proj(text))),
            ],
            2,
        )
        v = torch.cat([heads(attn.to_v(patches)), heads(attn.add_v_proj(text))], 2)
        logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        count = math.log(self.zeros) if self.zeros else -math.inf
        bias = F.pad(logits.new_zeros(k.shape[2] - 1), (0, 1), value=count)
        out = ((logits + bias).softmax(-1) @ v).transpose(1, 2).flatten(2)
        seen, read = out.split([patches.shape[1], text.shape[1]], 1)
        return attn.to_out[0](seen), read if attn.context_pre_only else attn.to_add_out(read)


@torch.no_grad()
def encode_captions(
    dataset: Dataset,
    text_encoder: CLIPTextModelWithProjection,
    tokenizer: CLIPTokenizer,
    folder: Path,
    device: torch.device,
) -> None:
    """Write ``prompts.npy``: what Stable Diffusion 3 reads of "" and of every caption, float16; the
    hidden states before the last layer, token by token, and then the projected summary.
    """
    ids = tokenize(tokenizer, ["", *dataset.captions], full=True).to(device)

    def encode(rows: slice) -> Tensor:
        out = text_encoder(ids[rows], output_hidden_states=True)
        return torch.cat([out.hidden_states[-2], out.text_embeds[:, None]], 1)

    write_rows(folder / "prompts.npy", (len(ids), ids.shape[1] + 1, WIDTH), encode, device)


def train(
    folder: Path, device: torch.device, minutes: float, settings: training.Settings = SETTINGS
) -> SD3Transformer2DModel:
    """Rectified flow (Liu et al. 2023): the velocity noise - data on the line between both, noise
    levels logit-normal (Esser et al. 2024), captions dropped in a tenth of the samples.
    """
    latents = np.load(folder / "latents.npy", mmap_mode="r")
    prompts = np.load(folder / "prompts.npy", mmap_mode="r")
    attention = PaddedAttention()
    normal = torch.distributions.Normal(0.0, 1.0)

    def loss(model: nn.Module, generator: torch.Generator, batch: int) -> training.Loss:
        drawn = draw_batch(latents, batch, generator)
        clean, noise = drawn.clean.to(device), drawn.noise.to(device)
        read = torch.from_numpy(prompts[drawn.captions]).to(device).float().repeat(1, 1, 2)
        text, summary = read[:, :-1], read[:, -1]
        t = normal.icdf(drawn.spread.clamp(1e-4, 1 - 1e-4)).sigmoid().to(device)
        noisy = torch.lerp(clean, noise, t[:, None, None, None])
        choice = int(torch.randint(len(T5_LENGTHS), (1,), generator=generator))
        attention.zeros = T5_LENGTHS[choice]
        predicted = model(
            noisy,
            encoder_hidden_states=F.pad(text, (0, 0, 0, 1)),
            pooled_projections=summary,
            timestep=t * 1000,
        ).sample.float()
        return (predicted - (noise - clean)).square().mean(), {}

    model = build()
    model.set_attn_processor(attention)
    training.train("flow", model, loss, settings, folder, device, minutes)
    return model
