"""More small flow pipelines: FLUX.2's, and those with latents of their own kind. See
``tests.flows``.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    Cosmos2TextToImagePipeline,
    CosmosTransformer3DModel,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinKVPipeline,
    Flux2KleinPipeline,
    Flux2Pipeline,
    FluxKontextPipeline,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    PRXPixelPipeline,
    ZImageOmniPipeline,
)
from torch import Tensor

from tests import tiny
from tests.flows import PLAIN, TOKENS, Case, case, flux, mask, random, shifting, z_image
from tests.flows_flux2 import PATCHED
from tests.flows_hidream import awaken, prx_transformer
from tests.tiny_language import flux_2_autoencoder, flux_2_transformer


def _klein(pipe: DiffusionPipeline, **conditioning: Any) -> Case:
    """It gives back latents as its autoencoder has them: scaled, shifted and without patches."""
    norm = pipe.vae.bn

    def returned(latents: Tensor) -> Tensor:
        mean, variance = (x.view(1, -1, 1, 1) for x in (norm.running_mean, norm.running_var))
        spread = torch.sqrt(variance + pipe.vae.config.batch_norm_eps)
        return pipe._unpatchify_latents(latents.to(mean.dtype) * spread + mean)

    made = case(pipe, PATCHED, prompt_embeds=random(2, TOKENS, 20), **conditioning)
    return Case(pipe, made.latents, made.conditioning, returned)


def flux_2() -> Case:
    torch.manual_seed(30)
    transformer = flux_2_transformer(20, guidance=True)
    pipe = Flux2Pipeline(shifting(), flux_2_autoencoder(), None, None, transformer)
    made = case(pipe, PATCHED, guidance_scale=2.5, prompt_embeds=random(2, TOKENS, 20))
    return Case(pipe, made.latents, made.conditioning, lambda latents: latents.flatten(2).mT)


def flux_2_klein() -> Case:
    torch.manual_seed(30)
    transformer = flux_2_transformer(20, guidance=False)
    pipe = Flux2KleinPipeline(shifting(), flux_2_autoencoder(), None, None, transformer)
    return _klein(pipe, guidance_scale=1.0)


def flux_2_klein_kv() -> Case:
    torch.manual_seed(30)
    transformer = flux_2_transformer(20, guidance=False)
    return _klein(Flux2KleinKVPipeline(shifting(), flux_2_autoencoder(), None, None, transformer))


def flux_kontext() -> Case:
    return flux(FluxKontextPipeline, max_area=256)


def hidream_image() -> Case:
    torch.manual_seed(32)
    transformer = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_channels=[20, 12],
        text_emb_dim=8,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(8, 8),
        llama_layers=[0, 1],
    ).eval()
    awaken(transformer)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    nothing = [None] * 8  # encoders and tokenizers
    pipe = HiDreamImagePipeline(scheduler, tiny.autoencoder(), *nothing, transformer)
    pipe.default_sample_size = 8  # its pictures have one area
    return case(
        pipe,
        PLAIN,
        guidance_scale=1.0,
        prompt_embeds_t5=random(2, TOKENS, 20),
        prompt_embeds_llama3=random(2, 2, TOKENS, 12, seed=1),  # layer, prompt, token, width
        pooled_prompt_embeds=random(2, 8, seed=3),
    )


def prx_pixel() -> Case:
    torch.manual_seed(33)
    transformer = prx_transformer(3)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = PRXPixelPipeline(transformer, scheduler, None, None)
    return case(
        pipe,
        (3, 16, 16),
        guidance_scale=1.0,
        use_resolution_binning=False,
        prompt_embeds=random(2, TOKENS, 20),
        prompt_attention_mask=mask(torch.bool),
    )


def z_image_omni() -> Case:
    plain = z_image()
    parts = plain.pipeline.components
    nothing = {"siglip": None, "siglip_processor": None}
    prompts = [[prompt] for prompt in plain.conditioning["prompt_embeds"]]  # no pictures between
    conditioning = plain.conditioning | {"prompt_embeds": prompts}
    return Case(ZImageOmniPipeline(**parts, **nothing), plain.latents, conditioning)


class Guard:
    """In the place of what reads prompts and looks at pictures; here are neither."""

    def to(self, device: str) -> None:
        """It goes nowhere."""


def cosmos_2() -> Case:
    """A process from level 80 down to 0.002, of latents that are 80 times as large."""
    torch.manual_seed(34)
    transformer = CosmosTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=20,
        adaln_lora_dim=4,
        max_size=(4, 16, 16),
        extra_pos_embed_type=None,
        concat_padding_mask=False,  # which takes torchvision
    ).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    pipe = Cosmos2TextToImagePipeline(None, None, transformer, None, scheduler, Guard())
    conditioning = {
        "guidance_scale": 1.0,
        "prompt_embeds": random(2, TOKENS, 20),
        "height": 64,
        "width": 64,
    }
    latents = random(2, 4, 1, 8, 8, seed=2)  # of one frame
    return Case(pipe, latents, conditioning, lambda latents: latents[:, :, 0])


FAMILIES: dict[str, Callable[[], Case]] = {
    Flux2Pipeline.__name__: flux_2,
    Flux2KleinPipeline.__name__: flux_2_klein,
    Flux2KleinKVPipeline.__name__: flux_2_klein_kv,
    FluxKontextPipeline.__name__: flux_kontext,
    HiDreamImagePipeline.__name__: hidream_image,
    PRXPixelPipeline.__name__: prx_pixel,
    ZImageOmniPipeline.__name__: z_image_omni,
    Cosmos2TextToImagePipeline.__name__: cosmos_2,
}
