"""The whole architecture of Stable Diffusion 1.5 on a CPU: seconds per call, and memory.

    python -m benchmarks.sd15 [--size 256] [--batches 2] [--threads 1]

The configurations are those of the real model; the weights are random, which costs the same time.
The tokenizer is that of the stickers, and its words do not matter here either. Calls are made in
the smallest batch that the program makes.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch.nn import init
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from benchmarks import figures
from evoken.models.batches import UNIT
from evoken.models.embedded import STICKERS
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.spec import ModelSpec


def pipeline(latents: int) -> StableDiffusionPipeline:
    """The parts of Stable Diffusion 1.5 in float32, with random weights.

    Args:
        latents: side of the latents; 64 are pictures of 512 px.
    """
    with quick_weights():
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                max_position_embeddings=77,
                hidden_act="quick_gelu",
                projection_dim=768,
                bos_token_id=0,
                eos_token_id=2,
                pad_token_id=1,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=latents,
            in_channels=4,
            out_channels=4,
            cross_attention_dim=768,
            attention_head_dim=8,
            block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2,
            down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            latent_channels=4,
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            sample_size=512,
            scaling_factor=0.18215,
            shift_factor=None,
        )
    words = CLIPTokenizer.from_pretrained(STICKERS / "clip", model_max_length=77)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=words,
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            skip_prk_steps=True,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


class quick_weights:  # noqa: N801
    """Within the block, layers begin with small uniform weights: a minute less of waiting."""

    NAMES = ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "normal_", "trunc_normal_")

    def __enter__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.before = {name: getattr(init, name) for name in self.NAMES}
        for name in self.NAMES:
            setattr(init, name, self.fill)

    def __exit__(self, *_: object) -> None:
        for name, function in self.before.items():
            setattr(init, name, function)

    def fill(self, tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        """Uniform, with the deviation that keeps the size of what passes through."""
        fan = tensor[0].numel() if tensor.ndim > 1 else 1
        bound = (3 / max(fan, 1)) ** 0.5
        generator = None if tensor.is_meta else self.generator
        with torch.no_grad():
            return tensor.uniform_(-bound, bound, generator=generator)


def one_thread() -> None:
    """Measure per core: on a machine that others use as well, that is what can be measured."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def measure_apart(module: str, way: str, results: Path, **options: int | str) -> None:
    """Run ``python -m module --only way`` on one thread in a process of its own, and keep the last
    line that it prints.
    """
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", module, "--only", way, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    with results.open("ab") as file:
        file.write(done.stdout.splitlines()[-1] + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = StableDiffusion(
        pipeline(options.size // 8), ModelSpec("sd15", size=options.size, batch=UNIT)
    )
    hidden = model.condition(["a photo of a cat"]).expand(UNIT, -1, -1)
    latents, t = model.noise(range(UNIT)), torch.linspace(0.1, 0.9, UNIT)
    seconds = []
    for _ in range(options.batches):
        started = time.perf_counter()
        predicted = model.denoise(latents, t, hidden)
        seconds.append((time.perf_counter() - started) / UNIT)
        print(f"{seconds[-1]:.2f} s per call", flush=True)
    assert predicted.isfinite().all() and predicted.shape == latents.shape
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures.update(
        {
            f"speed.sd15_seconds_per_call_{options.size}": figures.spread(seconds),
            f"speed.sd15_gigabytes_{options.size}": round(memory, 1),
            "speed.sd15_parameters_millions": round(
                sum(p.numel() for p in model.denoiser.parameters()) / 1e6
            ),
        }
    )


if __name__ == "__main__":
    main()
