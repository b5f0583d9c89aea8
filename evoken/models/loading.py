"""Any model, from a pipeline's folder, a hub id, or a single-file checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.loaders.single_file_utils import SingleFileComponentError, fetch_diffusers_config
from diffusers.utils import is_accelerate_available
from safetensors import SafetensorError, safe_open
from torch import Tensor

from evoken.errors import ModelError
from evoken.models.base import ModelSpec
from evoken.models.flux import Flux
from evoken.models.memory import out_of_memory
from evoken.models.sdxl import StableDiffusionXL
from evoken.models.stable_diffusion import StableDiffusion
from evoken.models.stable_diffusion_3 import StableDiffusion3

LatentModels = StableDiffusion | StableDiffusionXL | StableDiffusion3 | Flux
# By the class that a pipeline's configuration names: that class, and ours.
FAMILIES: dict[str, tuple[type[DiffusionPipeline], Callable[..., LatentModels]]] = {
    "StableDiffusionPipeline": (StableDiffusionPipeline, StableDiffusion),
    "StableDiffusionXLPipeline": (StableDiffusionXLPipeline, StableDiffusionXL),
    "StableDiffusion3Pipeline": (StableDiffusion3Pipeline, StableDiffusion3),
    "FluxPipeline": (FluxPipeline, Flux),
}
KNOWN = "Stable Diffusion 1.x, 2.x, XL, 3 or 3.5 or FLUX.1"
UNSAFE = (".ckpt", ".pt", ".pth", ".bin")
FAILURES = (MemoryError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError,
            SafetensorError, SingleFileComponentError)  # fmt: skip


def load_pipeline(path: str, spec: ModelSpec, **family: Any) -> LatentModels:
    """A model from a pipeline's folder, hub id or single file; safetensors only.

    Args:
        family: further arguments of the family's class.

    Raises:
        ModelError: not found, not of a family that can be used, or only there as pickles.
        SettingError: the model cannot be used with this spec.
    """
    try:
        is_file = Path(path).is_file()
        source = single_file_config(Path(path), spec) if is_file else path
        config = DiffusionPipeline.load_config(source)
        name = config.get("_class_name")
        if name in FAMILIES:
            kind, model = FAMILIES[name]
            if is_file:
                pipeline = kind.from_single_file(path, config=source, dtype=_dtype(spec))
                _check_complete(Path(path), pipeline)
            else:
                pipeline = _from_folder(kind, path, config, _dtype(spec))
            return model(pipeline, spec, **family)
        reason, cause = f"a {name}", None
    except FAILURES as error:
        reason, cause = (str(error).strip() or repr(error)).splitlines()[0][:200], error
        if out_of_memory(error):
            raise ModelError(f"memory for {spec.name!r} in {spec.precision} on {spec.device}",
                             f"less ({reason})", "Use --precision bfloat16 or float16, or "
                             "--runtime torch-int8.") from error  # fmt: skip
    fix = "Check the name, and that its weights are safetensors."
    if Path(path).is_file() and not spec.config:
        fix = "Give the folder of a pipeline of the same kind with --model-config."
    raise ModelError(
        f"a folder, a hub id or a single file of {KNOWN}", f"{spec.name!r} ({reason})", fix
    ) from cause


def _dtype(spec: ModelSpec) -> torch.dtype:
    """What weights are loaded in. Those that end in int8 or in half precision need not be finer
    than float16, which most models are published in, and take half the memory until then.
    """
    whole = spec.precision == "float32" and spec.runtime != "torch-int8"
    return torch.float32 if whole else torch.float16


def _from_folder(
    kind: type[DiffusionPipeline], path: str, config: dict[str, Any], dtype: torch.dtype
) -> Any:
    """A pipeline from its folder or hub id."""
    optional = (*kind._optional_components, "text_encoder_3", "tokenizer_3")
    # A folder saved without a part says so, but diffusers wants to be told again.
    absent: dict[str, Any] = {
        part: None
        for part in optional
        if part in kind.__init__.__annotations__ and not config.get(part, [None])[0]
    }
    if kind is StableDiffusionPipeline:
        absent |= {"safety_checker": None, "requires_safety_checker": False}
    return kind.from_pretrained(
        path,
        use_safetensors=True,
        dtype=dtype,
        low_cpu_mem_usage=is_accelerate_available(),  # else diffusers complains of its absence
        **absent,
    )


def single_file_config(file: Path, spec: ModelSpec) -> str:
    """The folder or hub id of the configuration to read a single-file checkpoint with.

    Raises:
        ModelError: the file is no safetensors, or there are other weights in the folder.
    """
    if file.suffix != ".safetensors":
        raise ModelError("a single file of type .safetensors", str(file),
                         "Convert it to safetensors: nothing is ever unpickled.")  # fmt: skip
    if spec.config:
        unsafe = [p for p in Path(spec.config).rglob("*") if p.suffix in UNSAFE]
        if unsafe:
            raise ModelError("a folder without weights other than safetensors", str(unsafe[0]),
                             "Take the file away: nothing is ever unpickled.")  # fmt: skip
        return spec.config
    return str(fetch_diffusers_config(_shapes(file))["pretrained_model_name_or_path"])


def _shapes(file: Path) -> dict[str, Tensor]:
    """A file's tensors by name, without their values."""
    with safe_open(file, "pt") as content:
        return {
            name: torch.empty(content.get_slice(name).get_shape(), device="meta")
            for name in list(content.keys())
        }


def _check_complete(file: Path, pipeline: Any) -> None:
    """Raise unless the file holds as many numbers as the denoiser: diffusers fills up what is
    missing with random ones, and says nothing.
    """
    shapes = _shapes(file)
    inner = [v for k, v in shapes.items() if k.startswith("model.diffusion_model.")]
    found = sum(value.numel() for value in inner or shapes.values())
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    needed = sum(value.numel() for value in denoiser.parameters())
    if found < needed:
        raise ModelError(f"a file with all weights of a denoiser of {needed:,}", f"{found:,}",
                         "Check that the configuration is that of the model.")  # fmt: skip
