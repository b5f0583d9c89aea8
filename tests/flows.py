"""Small flow pipelines of diffusers' families, with random weights and an example of a call each.

Text encoders are left out: every family takes embeddings of prompts in their place.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    Lumina2Pipeline,
    QwenImagePipeline,
    StableDiffusion3Pipeline,
    ZImagePipeline,
)
from torch import Tensor

from tests import tiny, tiny_language

TOKENS = 6  # of a prompt


@dataclass(frozen=True)
class Case:
    """A pipeline, and latents and keywords of a call for two pictures of 16 px.

    Attributes:
        returned: what the pipeline returns for the result of its last step.
        calls: of the denoiser, for one picture in one step.
    """

    pipeline: DiffusionPipeline
    latents: Tensor
    conditioning: dict[str, Any]
    returned: Callable[[Tensor], Tensor] = lambda latents: latents
    calls: int = 1


def in_half(given: Case) -> Case:
    """The same in bfloat16, as it would be loaded."""

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(each) for each in value]
        floats = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(torch.bfloat16) if floats else value

    pipe = given.pipeline.to(torch.bfloat16)
    for part in pipe.components.values():
        kept = set(getattr(part, "_keep_in_fp32_modules", None) or ())
        for name, weights in part.named_parameters() if kept else ():
            if kept & set(name.split(".")):
                weights.data = weights.data.float()
    conditioning = {name: rounded(value) for name, value in given.conditioning.items()}
    return replace(given, latents=rounded(given.latents), conditioning=conditioning)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PLAIN, PACKED = (4, 8, 8), (16, 16)  # latents of a picture, and as some families pack them


def case(pipe: DiffusionPipeline, latents: tuple[int, ...], **conditioning: Any) -> Case:
    size = {"height": 16, "width": 16}
    return Case(pipe, random(2, *latents, seed=2), conditioning | size)


def mask(kind: torch.dtype = torch.long) -> Tensor:
    """Of a prompt without padding."""
    return torch.ones(2, TOKENS, dtype=kind)


def shifting() -> FlowMatchEulerDiscreteScheduler:
    """FLUX's scheduler: its shift depends on the size of the picture."""
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)


def stable_diffusion_3() -> Case:
    pipe = tiny.flow_pipeline()
    return case(
        pipe,
        PLAIN,
        guidance_scale=1.0,
        prompt_embeds=random(2, TOKENS, 40),
        pooled_prompt_embeds=random(2, 32, seed=1),
    )


def flux(kind: type[DiffusionPipeline] = FluxPipeline, **conditioning: Any) -> Case:
    torch.manual_seed(3)
    transformer = tiny.flux_transformer(guidance=True, pooled=12)
    pipe = kind(shifting(), tiny.autoencoder(), None, None, None, None, transformer)
    return case(
        pipe,
        PACKED,
        guidance_scale=1.0,
        prompt_embeds=random(2, TOKENS, 20),
        pooled_prompt_embeds=random(2, 12, seed=1),
        **conditioning,
    )


def chroma() -> Case:
    torch.manual_seed(4)
    transformer = tiny_language.chroma_transformer()
    pipe = ChromaPipeline(shifting(), tiny.autoencoder(), None, None, transformer)
    return case(
        pipe,
        PACKED,
        guidance_scale=1.0,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_attention_mask=mask(torch.bool),
    )


def aura_flow() -> Case:
    torch.manual_seed(5)
    transformer = AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=20,
        caption_projection_dim=16,
        pos_embed_max_size=64,
    ).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.73)
    pipe = AuraFlowPipeline(None, None, tiny.autoencoder(), transformer, scheduler)
    return case(
        pipe,
        PLAIN,
        guidance_scale=1.0,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_attention_mask=mask(),
    )


def lumina_2() -> Case:
    torch.manual_seed(6)
    transformer = tiny_language.lumina_2_transformer(20)
    pipe = Lumina2Pipeline(transformer, shifting(), tiny.autoencoder(), None, None)
    return case(
        pipe,
        PLAIN,
        guidance_scale=1.0,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_attention_mask=mask(),
    )


def qwen_image() -> Case:
    torch.manual_seed(7)
    transformer = tiny_language.qwen_image_transformer(20)
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    pipe = QwenImagePipeline(scheduler, vae, None, None, transformer)
    return case(
        pipe,
        PACKED,
        true_cfg_scale=1.0,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_embeds_mask=mask(),
    )


def z_image() -> Case:
    torch.manual_seed(8)
    transformer = tiny_language.z_image_transformer(20)
    pipe = ZImagePipeline(shifting(), tiny.autoencoder(), None, None, transformer)
    prompts = [random(TOKENS, 20, seed=s) for s in (0, 1)]
    return case(pipe, PLAIN, guidance_scale=0.0, prompt_embeds=prompts)


FAMILIES: dict[str, Callable[[], Case]] = {
    StableDiffusion3Pipeline.__name__: stable_diffusion_3,
    FluxPipeline.__name__: flux,
    ChromaPipeline.__name__: chroma,
    AuraFlowPipeline.__name__: aura_flow,
    Lumina2Pipeline.__name__: lumina_2,
    QwenImagePipeline.__name__: qwen_image,
    ZImagePipeline.__name__: z_image,
}
