"""Very small models of the real classes, with random weights: what tests run on."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

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


def pipeline(prediction: str = "epsilon") -> StableDiffusionPipeline:
    """A pipeline of the classes of Stable Diffusion: 16 px pictures, 8 x 8 latents."""
    words = tokenizer()
    whole = clip(words)
    text_encoder = CLIPTextModel(whole.config.text_config).eval()
    text_encoder.load_state_dict(
        {k.removeprefix("text_model."): v for k, v in whole.text_model.state_dict().items()}
    )
    torch.manual_seed(1)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=2,
        sample_size=16,
        scaling_factor=0.5,
    )
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
        vae=vae.eval(),
        text_encoder=text_encoder,
        tokenizer=words,
        unet=unet.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save(folder: Path) -> Path:
    """Write a pipeline and its CLIP as folders; returns the pipeline's."""
    pipe = pipeline()
    pipe.save_pretrained(folder / "model")
    whole = clip(pipe.tokenizer)
    whole.save_pretrained(folder / "clip")
    pipe.tokenizer.save_pretrained(folder / "clip")
    return folder / "model"
