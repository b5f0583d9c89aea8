"""The kinds of model: their text encoders, and what a single file of one holds.

Text encoders go by the names that ComfyUI gives them: clip_l (CLIP ViT-L), clip_g (OpenCLIP bigG),
clip_h (OpenCLIP H, of Stable Diffusion 2) and t5xxl.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ENCODERS = ("clip_l", "clip_g", "clip_h", "t5xxl")  # and the order of a word's vectors in a row


@dataclass(frozen=True, eq=False)
class Base:
    """A kind of model that words are made for.

    Attributes:
        name: as people call it.
        architecture: the start of its name in the ModelSpec standard.
        widths: of the token embeddings of its text encoders. A word with vectors for all of them
            but t5xxl is a whole one.
    """

    name: str
    architecture: str
    widths: Mapping[str, int]


SD1 = Base("Stable Diffusion 1.x", "stable-diffusion-v1", {"clip_l": 768})
SD2 = Base("Stable Diffusion 2.x", "stable-diffusion-v2", {"clip_h": 1024})
SDXL = Base("Stable Diffusion XL", "stable-diffusion-xl-v1-base", {"clip_l": 768, "clip_g": 1280})
SD3 = Base(
    "Stable Diffusion 3", "stable-diffusion-3", {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096}
)
FLUX = Base("FLUX.1", "flux-1", {"clip_l": 768, "t5xxl": 4096})
BASES = (SD1, SD2, SDXL, SD3, FLUX)

UNET = ("model.diffusion_model.input_blocks.",)
VAE = ("first_stage_model.", "vae.")
# Without these, which some programs leave out, diffusers cannot read a file's T5.
T5 = ("text_encoders.t5xxl.transformer.encoder.embed_tokens.",)

# By a pipeline's class: its models, denoiser first, and what names of their weights begin with.
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "StableDiffusionPipeline": {
        "unet": UNET,
        "vae": VAE,
        "text_encoder": ("cond_stage_model.",),
    },
    "StableDiffusionXLPipeline": {
        "unet": UNET,
        "vae": VAE,
        "text_encoder": ("conditioner.embedders.0.",),
        "text_encoder_2": ("conditioner.embedders.1.",),
    },
    "StableDiffusion3Pipeline": {
        "transformer": ("joint_blocks.", "model.diffusion_model.joint_blocks."),
        "vae": VAE,
        "text_encoder": ("text_encoders.clip_l.",),
        "text_encoder_2": ("text_encoders.clip_g.",),
        "text_encoder_3": T5,
    },
    "FluxPipeline": {
        "transformer": ("double_blocks.", "model.diffusion_model.double_blocks."),
        "vae": VAE,
        "text_encoder": ("text_encoders.clip_l.",),
        "text_encoder_2": T5,
    },
}


def encoder_of_width(width: int) -> str:
    """The text encoder that a word of a single one is for."""
    known = {1024: "clip_h", 1280: "clip_g", 4096: "t5xxl"}
    return known.get(width, "clip_l")
