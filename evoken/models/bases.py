"""The kinds of model in one table: names, text encoders, classes, and what a single file holds.

Text encoders go by the names that ComfyUI gives them: clip_l (CLIP ViT-L), clip_g (OpenCLIP bigG),
clip_h (OpenCLIP H, of Stable Diffusion 2) and t5xxl.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

ENCODERS = ("clip_l", "clip_g", "clip_h", "t5xxl")  # and the order of a word's vectors in a row


@dataclass(frozen=True, eq=False)
class Base:
    """A kind of model: a row here, and the file of its family.

    Attributes:
        name: as people call it.
        architecture: the start of its name in the ModelSpec standard.
        widths: of the token embeddings of its text encoders, in the pipeline's order. A word with
            vectors for all of them but t5xxl is a whole one.
        pipeline: its class in diffusers, as a pipeline's configuration names it.
        family: module in ``evoken.models.families`` and the class there.
        trained_in: the precision.
        parts: its models, denoiser first, by their names in the pipeline, and what names of their
            weights begin with in a single file.
    """

    name: str
    architecture: str
    widths: Mapping[str, int]
    pipeline: str
    family: tuple[str, str]
    trained_in: str
    parts: Mapping[str, tuple[str, ...]]


UNET = ("model.diffusion_model.input_blocks.",)
VAE = ("first_stage_model.", "vae.")
# Without these, which some programs leave out, diffusers cannot read a file's T5.
T5 = ("text_encoders.t5xxl.transformer.encoder.embed_tokens.",)

SD1 = Base(
    name="Stable Diffusion 1.x",
    architecture="stable-diffusion-v1",
    widths={"clip_l": 768},
    pipeline="StableDiffusionPipeline",
    family=("stable_diffusion", "StableDiffusion"),
    trained_in="float16",
    parts={"unet": UNET, "vae": VAE, "text_encoder": ("cond_stage_model.",)},
)
SD2 = replace(
    SD1,
    name="Stable Diffusion 2.x",
    architecture="stable-diffusion-v2",
    widths={"clip_h": 1024},
)
SDXL = Base(
    name="Stable Diffusion XL",
    architecture="stable-diffusion-xl-v1-base",
    widths={"clip_l": 768, "clip_g": 1280},
    pipeline="StableDiffusionXLPipeline",
    family=("sdxl", "StableDiffusionXL"),
    trained_in="float16",
    parts={
        "unet": UNET,
        "vae": VAE,
        "text_encoder": ("conditioner.embedders.0.",),
        "text_encoder_2": ("conditioner.embedders.1.",),
    },
)
SD3 = Base(
    name="Stable Diffusion 3",
    architecture="stable-diffusion-3",
    widths={"clip_l": 768, "clip_g": 1280, "t5xxl": 4096},
    pipeline="StableDiffusion3Pipeline",
    family=("stable_diffusion_3", "StableDiffusion3"),
    trained_in="bfloat16",
    parts={
        "transformer": ("joint_blocks.", "model.diffusion_model.joint_blocks."),
        "vae": VAE,
        "text_encoder": ("text_encoders.clip_l.",),
        "text_encoder_2": ("text_encoders.clip_g.",),
        "text_encoder_3": T5,
    },
)
FLUX = Base(
    name="FLUX.1",
    architecture="flux-1",
    widths={"clip_l": 768, "t5xxl": 4096},
    pipeline="FluxPipeline",
    family=("flux", "Flux"),
    trained_in="bfloat16",
    parts={
        "transformer": ("double_blocks.", "model.diffusion_model.double_blocks."),
        "vae": VAE,
        "text_encoder": ("text_encoders.clip_l.",),
        "text_encoder_2": T5,
    },
)
BASES = (SD1, SD2, SDXL, SD3, FLUX)


def encoder_of_width(width: int) -> str:
    """The text encoder that a word of a single one is for."""
    known = {w: name for base in BASES for name, w in base.widths.items()}
    return known.get(width, "clip_l")
