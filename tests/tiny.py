"""Very small models of the real classes, with random weights: what tests run on."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
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


def clip(words: CLIPTokenizer) -> CLIPModel:
    tower = {
        "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "projection_dim": WIDTH,
    }  # fmt: skip
    text = {
        "vocab_size": len(words), "max_position_embeddings": 32,
        "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }  # fmt: skip
    torch.manual_seed(0)  # tests only: the library itself has no global seeds
    return CLIPModel(
        CLIPConfig(
            text_config=tower | text,
            vision_config=tower | {"image_size": 32, "patch_size": 8},
            projection_dim=WIDTH,
        )
    ).eval()


def autoencoder() -> AutoencoderKL:
    """16 px pictures to 4 x 8 x 8 latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=2,
        sample_size=16,
        scaling_factor=0.5,
        shift_factor=None,
    ).eval()


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
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
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
        unet=unet.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flow_pipeline(t5: bool = False, shift: float = 3.0) -> StableDiffusion3Pipeline:
    """A pipeline of the classes of Stable Diffusion 3, with two text encoders that differ."""
    words = tokenizer()
    config = clip(words).config.text_config
    torch.manual_seed(2)
    first, second = (CLIPTextModelWithProjection(config).eval() for _ in range(2))
    vae = autoencoder()
    vae.register_to_config(shift_factor=0.1)
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
    )
    third = None
    if t5:
        size = {"d_model": 40, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        third = T5EncoderModel(T5Config(vocab_size=len(words), **size)).eval()
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=vae,
        text_encoder=first,
        tokenizer=words,
        text_encoder_2=second,
        tokenizer_2=words,
        text_encoder_3=third,
        tokenizer_3=words if t5 else None,
    )


def save(folder: Path) -> Path:
    """Write a pipeline of each family, and their CLIP, as folders; returns the first."""
    pipe: DiffusionPipeline = pipeline()
    pipe.save_pretrained(folder / "model")
    flow_pipeline().save_pretrained(folder / "flow")
    whole = clip(pipe.tokenizer)
    whole.save_pretrained(folder / "clip")
    pipe.tokenizer.save_pretrained(folder / "clip")
    return folder / "model"
