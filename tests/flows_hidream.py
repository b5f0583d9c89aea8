"""More of diffusers' families of flow pipelines. See ``tests.flows``."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import (
    AdaptiveProjectedMixGuidance,
    AutoencoderKLHunyuanImage,
    FlowMatchEulerDiscreteScheduler,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    Kandinsky5T2IPipeline,
    Kandinsky5Transformer3DModel,
    LuminaNextDiT2DModel,
    LuminaPipeline,
    PRXPipeline,
    PRXTransformer2DModel,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
    StableDiffusion3PAGPipeline,
)
from diffusers.guiders import BaseGuidance

from tests import tiny
from tests.flows import PACKED, PLAIN, TOKENS, Case, case, mask, random


def awaken(transformer: torch.nn.Module) -> None:
    """Weights for the layers that begin at zero, where nothing depends on level and prompt."""
    for weights in transformer.parameters():
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.1)


def hunyuan_image(
    guider: BaseGuidance | None = None, call: Mapping[str, Any] | None = None, **options: bool
) -> Case:
    """
    Args:
        guider: without one there is no guidance.
        call, options: more arguments of the call and of the denoiser.
    """
    torch.manual_seed(9)
    transformer = HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=(1, 1),
        text_embed_dim=20,
        text_embed_2_dim=12,
        rope_axes_dim=(8, 8),
        **options,
    ).eval()
    vae = AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        spatial_compression_ratio=2,
        sample_size=16,
        scaling_factor=0.5,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    guider = guider or AdaptiveProjectedMixGuidance(enabled=False)
    pipe = HunyuanImagePipeline(scheduler, vae, None, None, None, None, transformer, guider)
    return case(
        pipe,
        PLAIN,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_embeds_mask=mask(),
        prompt_embeds_2=random(2, TOKENS, 12, seed=1),
        prompt_embeds_mask_2=mask(),
        **call or {},
    )


def kandinsky_5() -> Case:
    torch.manual_seed(10)
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=20,
        in_text_dim2=12,
        time_dim=16,
        out_visual_dim=4,
        patch_size=(1, 2, 2),
        model_dim=16,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 4, 8),
    ).eval()
    awaken(transformer)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = Kandinsky5T2IPipeline(transformer, tiny.autoencoder(), None, None, None, None, scheduler)
    pipe.vae_scale_factor_spatial = 2  # it is written down for FLUX's autoencoder,
    pipe.resolutions = [(16, 16)]  # and pictures are of a megapixel
    return case(
        pipe,
        (1, 8, 8, 4),
        guidance_scale=1.0,
        prompt_embeds_qwen=random(2, TOKENS, 20),
        prompt_embeds_clip=random(2, 12, seed=1),
        prompt_cu_seqlens=torch.tensor([[0, TOKENS]] * 2),  # each prompt's own
    )


def lumina() -> Case:
    torch.manual_seed(11)
    transformer = LuminaNextDiT2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=16,
        cross_attention_dim=20,
    ).eval()
    torch.nn.init.ones_(transformer.layers[0].gate)  # of the prompt's tokens; it begins at zero
    scheduler = FlowMatchEulerDiscreteScheduler()
    pipe = LuminaPipeline(transformer, scheduler, tiny.autoencoder(), None, None)
    return case(
        pipe,
        PLAIN,
        guidance_scale=1.0,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_attention_mask=mask(),
    )


def prx_transformer(channels: int) -> PRXTransformer2DModel:
    transformer = PRXTransformer2DModel(
        in_channels=channels,
        patch_size=2,
        context_in_dim=20,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        axes_dim=[4, 4],
    ).eval()
    awaken(transformer)
    return transformer


def prx() -> Case:
    torch.manual_seed(12)
    transformer = prx_transformer(4)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    with warnings.catch_warnings():
        # The class still has a base that diffusers itself says not to use.
        warnings.filterwarnings("ignore", message=".*LoraLoaderMixin", category=FutureWarning)
        pipe = PRXPipeline(transformer, scheduler, None, None, tiny.autoencoder())
    return case(
        pipe,
        PLAIN,
        guidance_scale=1.0,
        use_resolution_binning=False,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_attention_mask=mask(torch.bool),
    )


class Processor:
    """What the pipeline asks for when it is made: the numbers of its own words."""

    @property
    def tokenizer(self) -> "Processor":
        return self

    def apply_chat_template(self, messages: list[Any], **options: bool) -> list[list[int]]:
        return [[0]]

    def encode(self, text: str) -> list[int]:
        return [0]


def qwen_image_21() -> Case:
    torch.manual_seed(13)
    transformer = QwenImage21Transformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=20,
        axes_dims_rope=(4, 6, 6),
    ).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    pipe = QwenImage21Pipeline(scheduler, None, None, Processor(), transformer)
    pipe.vae_scale_factor = 4  # it is written down for the family's autoencoder
    return case(
        pipe,
        PACKED,
        true_cfg_scale=1.0,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_embeds_mask=mask(),
    )


def stable_diffusion_3_pag() -> Case:
    own = tiny.flow_pipeline()
    encoders = [None] * 6
    pipe = StableDiffusion3PAGPipeline(own.transformer, own.scheduler, own.vae, *encoders)
    return case(
        pipe,
        PLAIN,
        guidance_scale=1.0,
        pag_scale=0.0,
        prompt_embeds=random(2, TOKENS, 40),
        pooled_prompt_embeds=random(2, 32, seed=1),
    )


FAMILIES: dict[str, Callable[[], Case]] = {
    HunyuanImagePipeline.__name__: hunyuan_image,
    Kandinsky5T2IPipeline.__name__: kandinsky_5,
    LuminaPipeline.__name__: lumina,
    PRXPipeline.__name__: prx,
    QwenImage21Pipeline.__name__: qwen_image_21,
    StableDiffusion3PAGPipeline.__name__: stable_diffusion_3_pag,
}
