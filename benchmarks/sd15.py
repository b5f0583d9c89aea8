"""The architecture of Stable Diffusion 1.5 with random weights: 860 million of them."""

import os

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch.nn import init
from transformers import CLIPTextConfig, CLIPTextModel

from stickers.vocabulary import train_tokenizer

SENTENCES = ["a photo of a cat on the beach", "an oil painting of a red house in the snow"] * 4


def pipeline(latents: int) -> StableDiffusionPipeline:
    """The whole pipeline in float32; only the tokenizer is a small one.

    Args:
        latents: side of the latents; 64 are pictures of 512 px.
    """
    with quick_weights():
        unet = UNet2DConditionModel(sample_size=latents, cross_attention_dim=768)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=latents * 8,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                max_position_embeddings=77,
            )
        )
    tokenizer = train_tokenizer(SENTENCES)
    tokenizer.model_max_length = 77
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet,
        scheduler=DDPMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


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
