"""Every family beside the pipeline of diffusers that it is made of: what both read of prompts, and
what both draw.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diffusers import (
    ChromaPipeline,
    DPMSolverMultistepScheduler,
    FluxPipeline,
    Lumina2Pipeline,
    QwenImagePipeline,
    SanaPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    ZImagePipeline,
)
from torch import Tensor

from evoken.models.families.chroma import Chroma
from evoken.models.families.flow import FlowModel
from evoken.models.families.flux import Flux, pack
from evoken.models.families.flux_2 import Flux2Dev, Flux2Klein
from evoken.models.families.latent import LatentModel
from evoken.models.families.lumina_2 import Lumina2
from evoken.models.families.qwen_image import QwenImage
from evoken.models.families.sana import Sana
from evoken.models.families.sdxl import StableDiffusionXL
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.families.stable_diffusion_3 import StableDiffusion3
from evoken.models.families.z_image import ZImage
from evoken.spec import ModelSpec
from tests import tiny, tiny_language

SPEC = ModelSpec("tiny", size=16)
STEPS, GUIDANCE = 5, 4.0
NEAR = 1e-3  # that two pictures may differ and still be equal: by rounding
SIZES = (16, 24)
INSTRUCTION = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"]


@dataclass(frozen=True)
class Own:
    """A small pipeline, and the family that is made of it.

    Attributes:
        kind: the row of docs/models.md.
        guidance: that of the pipeline's call for GUIDANCE, by its name there.
        keywords: further ones of the call.
        packed: whether its latents are.
    """

    kind: str
    build: Callable[[], Any]
    family: Callable[..., LatentModel]
    guidance: dict[str, float] = field(default_factory=lambda: {"guidance_scale": GUIDANCE})
    keywords: dict[str, Any] = field(default_factory=dict)
    packed: bool = False


PIPELINES = {
    "epsilon": Own("Stable Diffusion 1.x", tiny.pipeline, StableDiffusion),
    "v": Own("Stable Diffusion 2.x", tiny.second_pipeline, StableDiffusion),
    "xl": Own("Stable Diffusion XL", tiny.xl_pipeline, StableDiffusionXL),
    "xl-v": Own("Stable Diffusion XL", lambda: tiny.xl_pipeline("v_prediction"), StableDiffusionXL),
    "xl-empty-prompt": Own(
        "Stable Diffusion XL", lambda: tiny.xl_pipeline(zeros=False), StableDiffusionXL
    ),
    "flow": Own("Stable Diffusion 3, 3.5", tiny.flow_pipeline, StableDiffusion3),
    "flow-t5": Own(
        "Stable Diffusion 3, 3.5", lambda: tiny.flow_pipeline(with_t5=True), StableDiffusion3
    ),
    "flux": Own("FLUX.1 [dev]", tiny.flux_pipeline, Flux, packed=True),
    "schnell": Own(
        "FLUX.1 [schnell]", lambda: tiny.flux_pipeline(guidance=False), Flux, packed=True
    ),
    "klein-base": Own("FLUX.2 [klein] base", tiny_language.klein_pipeline, Flux2Klein),
    "klein": Own(
        "FLUX.2 [klein]", lambda: tiny_language.klein_pipeline(distilled=True), Flux2Klein
    ),
    "flux-2-dev": Own("FLUX.2 [dev]", tiny_language.flux_2_dev_pipeline, Flux2Dev),
    # Its own scale is one less: 0 means none.
    "z-image": Own(
        "Z-Image", tiny_language.z_image_pipeline, ZImage, {"guidance_scale": GUIDANCE - 1}
    ),
    "z-image-turbo": Own(
        "Z-Image-Turbo",
        lambda: tiny_language.z_image_pipeline(turbo=True),
        ZImage,
        {"guidance_scale": GUIDANCE - 1},
    ),
    "qwen-image": Own(
        "Qwen-Image",
        tiny_language.qwen_image_pipeline,
        QwenImage,
        {"true_cfg_scale": GUIDANCE},
        {"negative_prompt": [" ", " "]},
        packed=True,
    ),
    # These two want sizes of models with a coarser autoencoder, and draw what the latents say.
    "sana": Own(
        "SANA",
        tiny_language.sana_pipeline,
        Sana,
        keywords={"height": 32, "width": 32, "use_resolution_binning": False},
    ),
    "sana-euler": Own(
        "SANA",
        lambda: tiny_language.sana_pipeline(solver=False),
        Sana,
        keywords={"height": 32, "width": 32, "use_resolution_binning": False},
    ),
    "lumina-2": Own(
        "Lumina 2",
        tiny_language.lumina_2_pipeline,
        Lumina2,
        keywords={"height": 16, "width": 16},
    ),
    "chroma": Own("Chroma", tiny_language.chroma_pipeline, Chroma, packed=True),
}


def room_of(pipe: Any) -> int:
    """The longest prompt that its small tokenizer says that it can read."""
    words = getattr(pipe, "tokenizer_2", None) or pipe.tokenizer
    return int(words.model_max_length)


def encoded(pipe: Any, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
    """Tokens and pooled prompts of a pipeline with CLIP."""
    if isinstance(pipe, StableDiffusionPipeline):
        return pipe.encode_prompt(prompts, "cpu", 1, False)[0], None
    if isinstance(pipe, FluxPipeline):
        tokens, pooled, _ = pipe.encode_prompt(prompts, max_sequence_length=room_of(pipe))
        return tokens, pooled
    more = (None, None) if isinstance(pipe, StableDiffusion3Pipeline) else ()
    found = pipe.encode_prompt(prompts, *more, do_classifier_free_guidance=False)
    return found[0], found[2]


def tokens_of_each(pipe: Any, prompts: Sequence[str]) -> list[Tensor]:
    """Of a pipeline with a language model: what the denoiser gets of each prompt."""
    asked: dict[str, Any] = {"max_sequence_length": room_of(pipe)}
    if not hasattr(pipe, "default_sample_size") or isinstance(
        pipe, ChromaPipeline | Lumina2Pipeline
    ):
        asked["do_classifier_free_guidance"] = False
    if isinstance(pipe, SanaPipeline):
        asked["complex_human_instruction"] = INSTRUCTION.default
    found = pipe.encode_prompt(list(prompts), **asked)
    if isinstance(pipe, ZImagePipeline):
        return list(found[0])
    place = 2 if isinstance(pipe, ChromaPipeline) else 1
    masked = isinstance(pipe, ChromaPipeline | Lumina2Pipeline | SanaPipeline | QwenImagePipeline)
    if not masked or found[place] is None:
        return list(found[0])
    return [tokens[mask.bool()] for tokens, mask in zip(found[0], found[place], strict=True)]


def whole_masks(pipe: ChromaPipeline, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Prompts of Chroma with masks that do mask: those that its call makes are numbers, which
    attention takes for something to add (https://github.com/huggingface/diffusers/issues/13619).
    """
    names = ("prompt_embeds", "", "prompt_attention_mask")
    both = (*names, *(name and f"negative_{name}" for name in names))
    found = zip(both, pipe.encode_prompt(prompts, max_sequence_length=room_of(pipe)), strict=True)
    return {n: x.bool() if n.endswith("mask") else x for n, x in found if n}


def pictures(name: str, size: int) -> tuple[Tensor, Tensor]:
    """Of two prompts, ours and the pipeline's own call's, in [0, 1]."""
    own = PIPELINES[name]
    # Two of one kind: a family gives up those parts of its own that it does not need.
    model, pipe = own.family(own.build(), replace(SPEC, size=size)), own.build()
    return pictures_of(own, model, pipe)


def pictures_of(own: Own, model: LatentModel, pipe: Any) -> tuple[Tensor, Tensor]:
    """The same, of a model and a pipeline of this kind."""
    seeds, prompts = [3, 4], ["a photo of a cat", "the blue bird in the snow"]
    found = model.generate(model.condition(prompts), seeds, STEPS, GUIDANCE)
    if not isinstance(model, FlowModel):
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    keywords = {"height": model.size, "width": model.size, **own.guidance, **own.keywords}
    if not isinstance(pipe, StableDiffusionPipeline | StableDiffusionXLPipeline):
        keywords["max_sequence_length"] = room_of(pipe)
    if isinstance(pipe, StableDiffusion3Pipeline):
        keywords["max_sequence_length"] = 256
    if isinstance(pipe, ChromaPipeline):
        keywords |= whole_masks(pipe, prompts)
    else:
        keywords["prompt"] = prompts
    latents = model.noise(seeds)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        num_inference_steps=STEPS,
        output_type="pt",
        latents=pack(latents) if own.packed else latents,
        **keywords,
    ).images
    return (found + 1) / 2, expected
