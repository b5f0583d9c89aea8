"""Speed of a training step of the denoiser, by shape and by attention: the ``training.*`` figures.

python -m benchmarks.training [--repeats 5]
"""

import argparse
import time

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import figures
from stickers import denoiser
from stickers.autoencoder import LATENT_CHANNELS
from stickers.clip import WIDTH
from stickers.vocabulary import MAX_LENGTH

BATCH = 128
WIDE = {
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (112, 224),
    "attention_head_dim": (4, 8),
}


def inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    latents = torch.randn(batch, LATENT_CHANNELS, 8, 8)
    return latents, torch.randint(0, 1000, (batch,)), torch.randn(batch, MAX_LENGTH, WIDTH)


def seconds(model: UNet2DConditionModel) -> float:
    """One forward and backward pass."""
    latents, t, text = inputs(BATCH)
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(latents, t, text).sample.float().square().mean()
    loss.backward()
    model.zero_grad()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    chosen = denoiser.build()
    wide = UNet2DConditionModel.from_config({**chosen.config, **WIDE})
    found: dict[str, object] = {}
    for name, model in (("wide", wide), ("chosen", chosen)):
        with FlopCounterMode(display=False) as counter:
            model(*inputs(1))
        found[f"training.{name}.megamacs"] = round(counter.get_total_flops() / 2e6)
        weights = sum(w.numel() for w in model.parameters())
        found[f"training.{name}.megaweights"] = round(weights / 1e6, 1)
        times: dict[str, list[float]] = {"fused": [], "plain": []}
        # Side by side: each repeat measures both, after one that warms up.
        for repeat in range(options.repeats + 1):
            for kind, processor in (("fused", AttnProcessor2_0()), ("plain", AttnProcessor())):
                model.set_attn_processor(processor)
                spent = seconds(model)
                if repeat:
                    times[kind].append(BATCH / spent)
        found |= {f"training.{name}.{k}": figures.spread(v) for k, v in times.items()}
    figures.update(found)


if __name__ == "__main__":
    main()
