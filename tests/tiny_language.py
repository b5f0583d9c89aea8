"""Very small models of the families whose prompts are read by language models, and of Chroma. See
``tests.tiny``.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests import tiny
from tests.tiny_tokenizers import gemma_tokenizer, mistral_tokenizer, qwen_tokenizer

WIDTH = 16


def text_size(words: Any, layers: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 1024,
    } | more


def qwen3(words: Any, layers: int) -> Qwen3ForCausalLM:
    config = Qwen3Config(**text_size(words, layers, head_dim=8, max_window_layers=layers))
    return Qwen3ForCausalLM(config).eval()


def fill(model: nn.Module) -> None:
    """Weights that their class leaves at zero."""
    for value in model.parameters():
        if not bool(value.detach().any()):
            nn.init.normal_(value, std=0.1)


def flux_scheduler(**more: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0, **more)


def qwen_image_transformer(width: int) -> QwenImageTransformer2DModel:
    return QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=width,
        axes_dims_rope=(4, 4, 8),
    ).eval()


def qwen_image_pipeline() -> QwenImagePipeline:
    """A pipeline with the classes and configuration keys of Qwen-Image."""
    words = qwen_tokenizer()
    torch.manual_seed(7)
    size = text_size(words, 2, max_window_layers=2)
    size["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 1000000.0,
        "mrope_section": [1, 1, 2],
    }
    config = Qwen2_5_VLConfig(
        text_config=size,
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [0],
        },
    )
    transformer = qwen_image_transformer(WIDTH)
    fill(transformer)
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[-0.7, 0.1, 0.4, -0.2],
        latents_std=[2.8, 1.4, 2.3, 0.6],
    ).eval()
    return QwenImagePipeline(
        scheduler=flux_scheduler(
            base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=words,
        transformer=transformer,
    )


def z_image_transformer(width: int) -> ZImageTransformer2DModel:
    return ZImageTransformer2DModel(
        in_channels=4,
        dim=24,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=1,
        n_kv_heads=1,
        cap_feat_dim=width,
        axes_dims=[8, 8, 8],
        axes_lens=[256, 32, 32],
    ).eval()


def z_image_pipeline(turbo: bool = False) -> ZImagePipeline:
    """A pipeline with the classes and configuration keys of Z-Image, or of its Turbo."""
    words = qwen_tokenizer()
    torch.manual_seed(8)
    transformer = z_image_transformer(WIDTH)
    fill(transformer)
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if turbo else 6.0),
        vae=tiny.flow_autoencoder(),
        text_encoder=qwen3(words, 3).model,
        tokenizer=words,
        transformer=transformer,
    )


def gemma(words: Any) -> Gemma2Model:
    config = Gemma2Config(**text_size(words, 2, head_dim=8, query_pre_attn_scalar=8))
    return Gemma2Model(config).eval()


def lumina_2_transformer(width: int) -> Lumina2Transformer2DModel:
    return Lumina2Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(8, 8, 8),
        axes_lens=(256, 32, 32),
        cap_feat_dim=width,
    ).eval()


def lumina_2_pipeline() -> Lumina2Pipeline:
    """A pipeline with the classes and configuration keys of Lumina Image 2.0."""
    words = gemma_tokenizer()
    torch.manual_seed(9)
    transformer = lumina_2_transformer(WIDTH)
    fill(transformer)
    return Lumina2Pipeline(
        transformer=transformer,
        scheduler=flux_scheduler(),
        vae=tiny.flow_autoencoder(),
        text_encoder=gemma(words),
        tokenizer=words,
    )


def sana_transformer(width: int) -> SanaTransformer2DModel:
    """The denoiser of SANA, which reads prompts of this width."""
    return SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=width,
        sample_size=8,
    ).eval()


def sana_pipeline(solver: bool = True) -> SanaPipeline:
    """A pipeline with the classes and configuration keys of SANA, with either of the schedulers
    that its models have.
    """
    words = gemma_tokenizer()
    torch.manual_seed(10)
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        upsample_block_type="interpolate",
        downsample_block_type="Conv",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    ).eval()
    transformer = sana_transformer(WIDTH)
    return SanaPipeline(
        tokenizer=words,
        text_encoder=gemma(words),
        vae=vae,
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        )
        if solver
        else FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def chroma_transformer() -> ChromaTransformer2DModel:
    with warnings.catch_warnings():
        # It takes a class from where diffusers itself says not to.
        warnings.filterwarnings("ignore", message=".*FluxPosEmbed", category=FutureWarning)
        return ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=20,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=8,
            approximator_hidden_dim=16,
            approximator_layers=1,
        ).eval()


def chroma_pipeline() -> ChromaPipeline:
    """A pipeline with the classes and configuration keys of Chroma."""
    torch.manual_seed(11)
    encoder, words = tiny.t5(20, room=24)
    return ChromaPipeline(
        scheduler=flux_scheduler(),
        vae=tiny.flow_autoencoder(),
        text_encoder=encoder,
        tokenizer=words,
        transformer=chroma_transformer(),
    )


def flux_2_transformer(width: int, guidance: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=width,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    ).eval()


def flux_2_autoencoder() -> AutoencoderKLFlux2:
    """16 px pictures to 4 x 8 x 8 latents, which the denoiser reads as 16 x 4 x 4."""
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=2,
        sample_size=16,
    ).eval()
    nn.init.normal_(vae.bn.running_mean, std=0.3)
    nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    return vae


def klein_pipeline(distilled: bool = False) -> Flux2KleinPipeline:
    """A pipeline with the classes and configuration keys of FLUX.2 [klein]."""
    words = qwen_tokenizer()
    torch.manual_seed(12)
    return Flux2KleinPipeline(
        scheduler=flux_scheduler(),
        vae=flux_2_autoencoder(),
        text_encoder=qwen3(words, 28),
        tokenizer=words,
        transformer=flux_2_transformer(3 * WIDTH, guidance=False),
        is_distilled=distilled,
    )


def flux_2_dev_pipeline() -> Flux2Pipeline:
    """A pipeline with the classes and configuration keys of FLUX.2 [dev]; its tokenizer is that of
    the processor which its folder names.
    """
    words = mistral_tokenizer()
    torch.manual_seed(13)
    config = Mistral3Config(
        text_config={"model_type": "mistral", "head_dim": 8} | text_size(words, 31),
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
    )
    return Flux2Pipeline(
        scheduler=flux_scheduler(),
        vae=flux_2_autoencoder(),
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=words,
        transformer=flux_2_transformer(3 * WIDTH, guidance=True),
    )


PROCESSOR = {
    "image_token": "[IMG]",
    "image_break_token": "[IMG_BREAK]",
    "image_end_token": "[IMG_END]",
    "patch_size": 14,
    "spatial_merge_size": 2,
    "processor_class": "PixtralProcessor",
}


def save_flux_2_dev(folder: Path) -> None:
    """As it is published: with a processor in the tokenizer's place."""
    flux_2_dev_pipeline().save_pretrained(folder)
    (folder / "tokenizer" / "processor_config.json").write_text(json.dumps(PROCESSOR))
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))


def save(folder: Path) -> None:
    """Write a pipeline of each family as folders."""
    pipelines = {
        "qwen-image": qwen_image_pipeline(),
        "z-image": z_image_pipeline(),
        "z-image-turbo": z_image_pipeline(turbo=True),
        "lumina-2": lumina_2_pipeline(),
        "sana": sana_pipeline(),
        "chroma": chroma_pipeline(),
        "klein-base": klein_pipeline(),
        "klein": klein_pipeline(distilled=True),
    }
    for name, pipe in pipelines.items():
        pipe.save_pretrained(folder / name)
    save_flux_2_dev(folder / "flux-2-dev")
