"""Small flow pipelines, as in ``tests.flows``: of Bria, CogView4, GLM-Image and Sana."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKLFlux2,
    BriaFibo2Pipeline,
    BriaFibo2Transformer2DModel,
    BriaPipeline,
    BriaTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    GlmImagePipeline,
    GlmImageTransformer2DModel,
    SanaPAGPipeline,
    SanaPipeline,
)

from tests import tiny, tiny_language
from tests.flows import PACKED, PLAIN, TOKENS, Case, case, mask, random, shifting


def bria() -> Case:
    torch.manual_seed(20)
    transformer = BriaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=20,
        axes_dims_rope=(4, 4, 8),
    ).eval()
    pipe = BriaPipeline(transformer, shifting(), tiny.autoencoder(), None, None)
    return case(pipe, PACKED, guidance_scale=1.0, prompt_embeds=random(2, TOKENS, 20))


def bria_fibo_2() -> Case:
    torch.manual_seed(21)
    transformer = BriaFibo2Transformer2DModel(
        in_channels=4,
        dim=24,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=1,
        cap_feat_dim=20,
        injection_layer_ids=(0,),
        perceiver_num_layers=1,
        min_num_gist_tokens=4,
        max_num_gist_tokens=8,
        gist_step=4,
        gist_min_text_len=4,
        gist_max_text_len=16,
        axes_dims=(8, 8, 8),
        axes_lens=(32, 32, 32),
    ).eval()
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=16,
    ).eval()
    pipe = BriaFibo2Pipeline(transformer, shifting(), vae, None, None)
    return case(
        pipe,
        PLAIN,
        guidance_scale=1.0,
        prompt_embeds=random(2, 2, TOKENS, 20),  # of a prompt: one bundle, and one to inject
        prompt_embeds_mask=mask(torch.bool),
    )


def linear_shifting() -> FlowMatchEulerDiscreteScheduler:
    """CogView4's and GLM-Image's scheduler."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear"
    )


def cogview_4() -> Case:
    torch.manual_seed(22)
    transformer = CogView4Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        text_embed_dim=20,
        time_embed_dim=16,
        condition_dim=8,
        sample_size=8,
        rope_axes_dim=(16, 16),
    ).eval()
    pipe = CogView4Pipeline(None, None, tiny.autoencoder(), transformer, linear_shifting())
    return case(pipe, PLAIN, guidance_scale=1.0, prompt_embeds=random(2, TOKENS, 20))


def glm_image() -> Case:
    torch.manual_seed(23)
    transformer = GlmImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        text_embed_dim=20,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=32,
    ).eval()
    pipe = GlmImagePipeline(
        None, None, None, None, tiny.autoencoder(), transformer, linear_shifting()
    )
    return case(
        pipe,
        PLAIN,
        guidance_scale=1.0,
        prompt_embeds=random(2, TOKENS, 20),
        prior_token_ids=torch.arange(32).view(2, 16),  # a token per patch
    )


def _sana(kind: type[DiffusionPipeline], **conditioning: Any) -> Case:
    """32 px: its pictures' sizes are multiples of that."""
    torch.manual_seed(24)
    transformer = tiny_language.sana_transformer(20)
    vae = AutoencoderDC(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
    ).eval()
    pipe = kind(None, None, vae, transformer, FlowMatchEulerDiscreteScheduler(shift=3.0))
    prompts = {
        "guidance_scale": 1.0,
        "prompt_embeds": random(2, TOKENS, 20),
        "prompt_attention_mask": mask(),
    }
    size = {"height": 32, "width": 32, "use_resolution_binning": False}
    return Case(pipe, random(2, *PLAIN, seed=2), prompts | size | conditioning)


def sana() -> Case:
    return _sana(SanaPipeline)


def sana_pag() -> Case:
    return _sana(SanaPAGPipeline, pag_scale=0.0)


FAMILIES: dict[str, Callable[[], Case]] = {
    BriaPipeline.__name__: bria,
    BriaFibo2Pipeline.__name__: bria_fibo_2,
    CogView4Pipeline.__name__: cogview_4,
    GlmImagePipeline.__name__: glm_image,
    SanaPipeline.__name__: sana,
    SanaPAGPipeline.__name__: sana_pag,
}
