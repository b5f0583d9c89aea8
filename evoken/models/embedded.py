"""The sticker models that are shipped in the package, and how any model is loaded by its name."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusion3Pipeline, StableDiffusionPipeline
from diffusers.utils import is_accelerate_available

from evoken.errors import ModelError, SettingError
from evoken.judge import Judge
from evoken.models.base import PRECISIONS, ModelSpec
from evoken.models.clip import Clip
from evoken.models.stable_diffusion import StableDiffusion
from evoken.models.stable_diffusion_3 import StableDiffusion3

STICKERS = Path(__file__).parent / "weights"
EMBEDDED = ("stickers", "stickers-flow")
DEFAULT_CLIP = "openai/clip-vit-large-patch14"  # the text encoder of Stable Diffusion 1.x

DEFAULT_SPEC = ModelSpec()
LatentModels = StableDiffusion | StableDiffusion3


def load_model(spec: ModelSpec = DEFAULT_SPEC) -> LatentModels:
    """The model of a spec; by default the sticker model.

    Raises:
        ModelError: it cannot be found or is of another family.
        SettingError: the precision, the batch or the device is not possible.
    """
    if spec.precision not in PRECISIONS:
        raise SettingError(f"a precision of {', '.join(PRECISIONS)}", repr(spec.precision),
                           "Use one of these.")  # fmt: skip
    if spec.batch < 1:
        raise SettingError("a batch of at least 1", str(spec.batch), "Use 16 or more.")
    _check_device(spec.device)
    if spec.name in EMBEDDED:
        # stickers-flow was trained to do without the zeros in T5's place.
        return load_pipeline(str(STICKERS / spec.name), spec, t5_tokens=0)
    looks_like_path = spec.name.startswith((".", "/", "~")) or spec.name.count("/") != 1
    folder = Path(spec.name).expanduser()
    if looks_like_path and not folder.is_dir():
        raise ModelError(f"{', '.join(EMBEDDED)}, a folder, or a hub id",
                         f"{spec.name!r}, which is none", "Check the name.")  # fmt: skip
    return load_pipeline(str(folder) if folder.is_dir() else spec.name, spec)


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        raise SettingError("a device that this machine has",
                           f"{device!r} ({str(error).splitlines()[0]})",
                           "Change --device.") from error  # fmt: skip


def load_pipeline(path: str, spec: ModelSpec, t5_tokens: int = 256) -> LatentModels:
    """A model from a pipeline's folder or hub id; safetensors only.

    Raises:
        ModelError: not found, not of a family that can be used, or only there as pickles.
    """
    options: dict[str, Any] = {
        "use_safetensors": True,
        "dtype": torch.float32,
        "low_cpu_mem_usage": is_accelerate_available(),  # else diffusers complains of its absence
    }
    try:
        config = DiffusionPipeline.load_config(path)
        family = config.get("_class_name")
        if family == StableDiffusionPipeline.__name__:
            unsafe = {"safety_checker": None, "requires_safety_checker": False}
            pipeline = StableDiffusionPipeline.from_pretrained(path, **options, **unsafe)
            return StableDiffusion(pipeline, spec)
        if family == StableDiffusion3Pipeline.__name__:
            # A folder saved without T5 says so, but diffusers wants to be told again.
            t5 = ("text_encoder_3", "tokenizer_3")
            absent = {name: None for name in t5 if not config.get(name, [None])[0]}
            pipeline = StableDiffusion3Pipeline.from_pretrained(path, **options, **absent)
            return StableDiffusion3(pipeline, spec, t5_tokens)
        reason = f"a {family}"
        cause = None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason, cause = str(error).strip().splitlines()[0][:200], error
    raise ModelError(
        f"{', '.join(EMBEDDED)}, a folder, or a hub id of Stable Diffusion 1.x, 2.x, 3 or 3.5",
        f"{spec.name!r} ({reason})",
        "Check the name, and that its weights are safetensors.",
    ) from cause


def default_clip(model: str) -> str:
    """The name of the CLIP that goes with a model by default."""
    return "stickers" if model in EMBEDDED else DEFAULT_CLIP


@cache
def load_clip(name: str = "stickers") -> Clip:
    """The CLIP that goes with a model: the sticker CLIP, a folder, or a hub id."""
    return Clip.load(str(STICKERS / "clip") if name in EMBEDDED else name)


@cache
def load_judge() -> Judge:
    """The judge of the sticker world."""
    return Judge.load(STICKERS / "judge")
