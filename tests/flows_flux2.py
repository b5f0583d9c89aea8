"""More small flow pipelines: families that came after FLUX.2. See ``tests.flows``."""

from collections.abc import Callable

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    NucleusMoEImagePipeline,
    NucleusMoEImageTransformer2DModel,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
)
from torch import nn

from tests import tiny
from tests.flows import PACKED, TOKENS, Case, case, mask, random, shifting
from tests.tiny_language import flux_2_autoencoder

PATCHED = (16, 4, 4)  # latents of a picture, as FLUX.2's autoencoder has them


def qwen_autoencoder() -> AutoencoderKLQwenImage:
    """16 px pictures to 4 x 8 x 8 latents."""
    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


def fill(*weights: nn.Parameter) -> None:
    """Weights that their class leaves at zero, or unset."""
    for weight in weights:
        nn.init.normal_(weight, std=0.1)


def ovis_image() -> Case:
    torch.manual_seed(9)
    transformer = OvisImageTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=20,
        axes_dims_rope=(4, 4, 8),
    ).eval()
    pipe = OvisImagePipeline(shifting(), tiny.autoencoder(), None, None, transformer)
    return case(pipe, PACKED, guidance_scale=1.0, prompt_embeds=random(2, TOKENS, 20))


def ernie_image() -> Case:
    torch.manual_seed(10)
    transformer = ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=1,
        ffn_hidden_size=64,
        in_channels=16,
        out_channels=16,
        text_in_dim=20,
        rope_axes_dim=(4, 4, 8),
    ).eval()
    modulation, final = transformer.adaLN_modulation[-1], transformer.final_linear
    fill(modulation.weight, modulation.bias, final.weight, final.bias)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=4.0)
    pipe = ErnieImagePipeline(transformer, flux_2_autoencoder(), None, None, scheduler)
    prompts = [random(TOKENS - s, 20, seed=s) for s in (0, 1)]
    return case(pipe, PATCHED, guidance_scale=1.0, prompt_embeds=prompts)


def krea_2() -> Case:
    torch.manual_seed(11)
    transformer = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        timestep_embed_dim=32,
        text_hidden_dim=20,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=40,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 4, 8),
    ).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_image_seq_len=6400)
    pipe = Krea2Pipeline(scheduler, qwen_autoencoder(), None, None, transformer, (1, 2))
    return case(
        pipe,
        PACKED,
        guidance_scale=0.0,
        prompt_embeds=random(2, TOKENS, 2, 20),
        prompt_embeds_mask=mask(torch.bool),
    )


def nucleus_moe_image() -> Case:
    torch.manual_seed(12)
    transformer = NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        joint_attention_dim=20,
        axes_dims_rope=(4, 4, 8),
        dense_moe_strategy="all_moe",
        num_experts=4,
        moe_intermediate_dim=32,
        capacity_factors=2.0,
    ).eval()
    experts = transformer.transformer_blocks[0].img_mlp.experts
    fill(experts.gate_up_proj, experts.down_proj)
    pipe = NucleusMoEImagePipeline(transformer, shifting(), qwen_autoencoder(), None, None)
    return case(
        pipe,
        PACKED,
        guidance_scale=1.0,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_embeds_mask=mask(),
    )


FAMILIES: dict[str, Callable[[], Case]] = {
    OvisImagePipeline.__name__: ovis_image,
    ErnieImagePipeline.__name__: ernie_image,
    Krea2Pipeline.__name__: krea_2,
    NucleusMoEImagePipeline.__name__: nucleus_moe_image,
}
