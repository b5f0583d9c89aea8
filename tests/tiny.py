"""Very small models of the real classes, with random weights: what tests run on."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from stickers.vocabulary import train_tokenizer

WIDTH = 16
SENTENCES = [
    "a photo of a cat",
    "a photo of a dog on the beach",
    "an oil painting of a red house in the snow",
    "a painting in the style of pixel art",
    "the blue bird and the yellow flower",
] * 3


def tokenizer() -> CLIPTokenizer:
    """A real CLIP tokenizer that knows a few dozen words."""
    return train_tokenizer(SENTENCES)


def t5(width: int, room: int = 512) -> tuple[T5EncoderModel, T5TokenizerFast]:
    """A T5 and a real T5 tokenizer that knows the sentences' words, and letters."""
    known = sorted({f"\u2581{word}" for line in SENTENCES for word in line.split()})
    known += ["\u2581", *"abcdefghijklmnopqrstuvwxyz<>"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0)]
    vocabulary += [(token, -1.0 - (len(token) == 1)) for token in known]
    words = T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=room)
    size = {"d_model": width, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(vocab_size=len(words), **size)).eval(), words


def text_config(
    words: CLIPTokenizer, width: int = WIDTH, projection: int = WIDTH
) -> CLIPTextConfig:
    """With the wrong end token that the configs of Stable Diffusion 1.x, 2.x and XL have."""
    return CLIPTextConfig(
        vocab_size=len(words),
        max_position_embeddings=32,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=projection,
        hidden_act="gelu",
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )


def clip(words: CLIPTokenizer) -> CLIPModel:
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": WIDTH,
    }
    text = {
        "vocab_size": len(words),
        "max_position_embeddings": 32,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    torch.manual_seed(0)  # tests only: the library itself has no global seeds
    return CLIPModel(
        CLIPConfig(
            text_config=tower | text,
            vision_config=tower | {"image_size": 32, "patch_size": 8},
            projection_dim=WIDTH,
        )
    ).eval()


def autoencoder(**changes: Any) -> AutoencoderKL:
    """16 px pictures to 4 x 8 x 8 latents."""
    size = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "latent_channels": 4,
        "norm_num_groups": 2,
        "sample_size": 16,
        "scaling_factor": 0.5,
        "shift_factor": None,
    }
    return AutoencoderKL(**size | changes).eval()


def flow_autoencoder() -> AutoencoderKL:
    """As those of Stable Diffusion 3 and FLUX are: shifted, without convolutions of latents."""
    return autoencoder(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False)


def unet(**changes: Any) -> UNet2DConditionModel:
    """For 8 x 8 latents."""
    size = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**size | changes).eval()


def pipeline(prediction: str = "epsilon") -> StableDiffusionPipeline:
    """A pipeline of the classes of Stable Diffusion: 16 px pictures, 8 x 8 latents."""
    words = tokenizer()
    whole = clip(words)
    text_encoder = CLIPTextModel(whole.config.text_config).eval()
    text_encoder.load_state_dict(
        {k.removeprefix("text_model."): v for k, v in whole.text_model.state_dict().items()}
    )
    torch.manual_seed(1)
    vae = autoencoder()
    scheduler = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        clip_sample=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=words,
        unet=unet(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flow_pipeline(
    with_t5: bool = False, shift: float = 3.0, dual: tuple[int, ...] = ()
) -> StableDiffusion3Pipeline:
    """A pipeline of the classes of Stable Diffusion 3, with two text encoders that differ; 3.5 has
    a second attention in the layers ``dual``.
    """
    words = tokenizer()
    config = clip(words).config.text_config
    torch.manual_seed(2)
    first, second = (CLIPTextModelWithProjection(config).eval() for _ in range(2))
    vae = flow_autoencoder()
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=40,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
        dual_attention_layers=dual,
    )
    third, third_words = t5(40) if with_t5 else (None, None)
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=vae,
        text_encoder=first,
        tokenizer=words,
        text_encoder_2=second,
        tokenizer_2=words,
        text_encoder_3=third,
        tokenizer_3=third_words,
    )


def second_pipeline() -> StableDiffusionPipeline:
    """A pipeline with the classes and configuration keys of Stable Diffusion 2.1: v-prediction,
    heads by level, linear projections, padding with "!".
    """
    pipe = pipeline("v_prediction")
    torch.manual_seed(4)
    pipe.tokenizer.pad_token = "!"
    pipe.register_modules(
        text_encoder=CLIPTextModel(text_config(pipe.tokenizer)).eval(),
        unet=unet(attention_head_dim=(2, 4), use_linear_projection=True),
    )
    return pipe


def xl_pipeline(prediction: str = "epsilon", zeros: bool = True) -> StableDiffusionXLPipeline:
    """A pipeline with the classes and configuration keys of Stable Diffusion XL."""
    first, second = tokenizer(), tokenizer()
    second.pad_token = "!"
    torch.manual_seed(5)
    return StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(text_config(first)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(text_config(second, 24, 20)).eval(),
        tokenizer=first,
        tokenizer_2=second,
        unet=unet(
            cross_attention_dim=WIDTH + 24,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 6 * 8,
            transformer_layers_per_block=(1, 2),
            attention_head_dim=(2, 4),
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction,
            timestep_spacing="leading",
            steps_offset=1,
        ),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )


def flux_transformer(guidance: bool, pooled: int) -> FluxTransformer2DModel:
    """The denoiser of FLUX.1; ``pooled`` is the width of CLIP's pooled prompt."""
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=20,
        pooled_projection_dim=pooled,
        guidance_embeds=guidance,
        axes_dims_rope=(4, 4, 8),
    ).eval()


def flux_pipeline(guidance: bool = True) -> FluxPipeline:
    """A pipeline with the classes and configuration keys of FLUX.1 [dev], or [schnell]."""
    words = tokenizer()
    torch.manual_seed(6)
    encoder, t5_words = t5(20, room=24)
    vae = flow_autoencoder()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=guidance,
            shift=3.0 if guidance else 1.0,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        ),
        vae=vae,
        text_encoder=CLIPTextModel(text_config(words)).eval(),
        tokenizer=words,
        text_encoder_2=encoder,
        tokenizer_2=t5_words,
        transformer=flux_transformer(guidance, WIDTH),
    )


def save(folder: Path) -> Path:
    """Write a pipeline of each family with CLIP, and that, as folders; returns the first."""
    pipe: DiffusionPipeline = pipeline()
    pipe.save_pretrained(folder / "model")
    flow_pipeline().save_pretrained(folder / "flow")
    second_pipeline().save_pretrained(folder / "second")
    xl_pipeline().save_pretrained(folder / "xl")
    flux_pipeline().save_pretrained(folder / "flux")
    flux_pipeline(guidance=False).save_pretrained(folder / "schnell")
    whole = clip(pipe.tokenizer)
    whole.save_pretrained(folder / "clip")
    pipe.tokenizer.save_pretrained(folder / "clip")
    return folder / "model"
