"""The kinds of model in one table: names, text encoders, classes, and what a single file holds.

Text encoders go by the names that ComfyUI gives them: clip_l (CLIP ViT-L), clip_g (OpenCLIP bigG),
clip_h (OpenCLIP H, of Stable Diffusion 2), t5xxl, and the language models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

# And the order of a word's vectors in a row.
ENCODERS = (
    "clip_l",
    "clip_g",
    "clip_h",
    "t5xxl",
    "qwen3_4b",
    "qwen3_8b",
    "mistral3_24b",
    "qwen25_7b",
    "gemma2_2b",
)


@dataclass(frozen=True)
class Distilled:
    """How the distilled models of a kind are told from those that words are learned on.

    Attributes:
        base: of the latter, the hub ids.
        entry: of the pipeline's configuration, which says so.
        shift: of the scheduler.
        name: what is in the names of the distilled ones, in small letters, and where that does not
            count.
    """

    base: str
    entry: str = ""
    shift: float | None = None
    name: str = ""
    unless: tuple[str, ...] = ()


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
            weights begin with in a single file; none where single files cannot be read.
        packs: how many latents the denoiser reads as one token.
        processor: whether the tokenizer comes as a part of a processor of pictures and texts.
        small_letters: whether the pipeline reads prompts in small letters.
        distilled: how its distilled models are told, if there are some.
    """

    name: str
    architecture: str
    widths: Mapping[str, int]
    pipeline: str
    family: tuple[str, str]
    trained_in: str
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    packs: int = 1
    processor: bool = False
    small_letters: bool = False
    distilled: Distilled | None = None


UNETS = "model.diffusion_model."  # names of a U-Net's weights begin so
UNET = (f"{UNETS}input_blocks.",)
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
    packs=4,
    # Nothing in the pipeline of [schnell] says so, but its scheduler's shift is 1, and [dev]'s 3.
    distilled=Distilled(
        "black-forest-labs/FLUX.1-dev",
        shift=1.0,
        name="schnell",
        unless=("openflux", "libreflux", "de-distill", "dedistill"),
    ),
)
KLEIN_4B = Base(
    name="FLUX.2 klein 4B",
    architecture="flux-2-klein-4b",
    widths={"qwen3_4b": 2560},
    pipeline="Flux2KleinPipeline",
    family=("flux_2", "Flux2Klein"),
    trained_in="bfloat16",
    distilled=Distilled(
        "black-forest-labs/FLUX.2-klein-base-4B or FLUX.2-klein-base-9B", entry="is_distilled"
    ),
)
KLEIN_9B = replace(
    KLEIN_4B,
    name="FLUX.2 klein 9B",
    architecture="flux-2-klein-9b",
    widths={"qwen3_8b": 4096},
)
FLUX_2_DEV = Base(
    name="FLUX.2 dev",
    architecture="flux-2-dev",
    widths={"mistral3_24b": 5120},
    pipeline="Flux2Pipeline",
    family=("flux_2", "Flux2Dev"),
    trained_in="bfloat16",
    processor=True,
)
Z_IMAGE = Base(
    name="Z-Image",
    architecture="z-image",
    widths={"qwen3_4b": 2560},
    pipeline="ZImagePipeline",
    family=("z_image", "ZImage"),
    trained_in="bfloat16",
    # Nothing in the files of Turbo says so, but its scheduler's shift is 3, and not 6.
    distilled=Distilled(
        "Tongyi-MAI/Z-Image", shift=3.0, name="turbo", unless=("de-turbo", "deturbo")
    ),
)
QWEN_IMAGE = Base(
    name="Qwen-Image",
    architecture="qwen-image",
    widths={"qwen25_7b": 3584},
    pipeline="QwenImagePipeline",
    family=("qwen_image", "QwenImage"),
    trained_in="bfloat16",
    packs=4,
)
SANA = Base(
    name="SANA",
    architecture="sana",
    widths={"gemma2_2b": 2304},
    pipeline="SanaPipeline",
    family=("sana", "Sana"),
    trained_in="bfloat16",
    small_letters=True,
)
LUMINA_2 = Base(
    name="Lumina 2",
    architecture="lumina-2",
    widths={"gemma2_2b": 2304},
    pipeline="Lumina2Pipeline",
    family=("lumina_2", "Lumina2"),
    trained_in="bfloat16",
)
CHROMA = Base(
    name="Chroma",
    architecture="chroma",
    widths={"t5xxl": 4096},
    pipeline="ChromaPipeline",
    family=("chroma", "Chroma"),
    trained_in="bfloat16",
    packs=4,
)
BASES = (
    SD1,
    SD2,
    SDXL,
    SD3,
    FLUX,
    KLEIN_4B,
    KLEIN_9B,
    FLUX_2_DEV,
    Z_IMAGE,
    QWEN_IMAGE,
    SANA,
    LUMINA_2,
    CHROMA,
)


def encoder_of_width(width: int) -> str:
    """The text encoder that a word of a single one is for; of two, the older one."""
    known = {w: name for base in reversed(BASES) for name, w in base.widths.items()}
    return known.get(width, "clip_l")


def like(base: Base, width: int) -> Base:
    """Of the kinds with a base's pipeline, the one whose only text encoder has this width; the base
    itself, where there is none.
    """
    kinds = (b for b in BASES if b.pipeline == base.pipeline)
    return next((b for b in kinds if list(b.widths.values()) == [width]), base)
