"""What a single-file checkpoint holds of a pipeline, and the configuration it is read with."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from evoken.errors import ModelError, shown
from evoken.libraries import single_file_utils
from evoken.models.bases import BASES, UNETS, Base
from evoken.models.contents import check_is_model
from evoken.models.float8 import is_scaled, is_weight, kinds_in, read_scaled
from evoken.models.gguf import is_gguf
from evoken.spec import ModelSpec

UNSAFE = (".ckpt", ".pt", ".pth", ".bin")


def single_file_config(file: Path, spec: ModelSpec) -> str:
    """The folder or hub id of the configuration to read a single-file checkpoint with.

    Raises:
        ModelError: the file is no model in safetensors, or there are other weights in the folder.
    """
    check_is_model(file)
    if is_gguf(file) and not spec.config:
        raise ModelError(
            f"{shown(file)} is a GGUF file, which holds a denoiser only, and no `config` is given.",
            "Give the folder or hub id of a pipeline of the same kind with `config`.",
        )
    if spec.config:
        unsafe = [p for p in Path(spec.config).rglob("*") if p.suffix in UNSAFE]
        if unsafe:
            raise ModelError(
                "the pipeline of `config` may only have weights in safetensors (got "
                f"{shown(unsafe[0])}).",
                "Remove the file: nothing is ever unpickled.",
            )
        return spec.config
    firsts = (next(iter(base.parts.values()), ()) for base in BASES)
    denoisers = tuple(start for starts in firsts for start in starts)
    if not any(name.startswith(denoisers) for name in _shapes(file)):
        raise ModelError(
            f"{shown(file)} holds no denoiser of a kind that is known.",
            "Give the file of a whole model, not of a part such as a VAE, a ControlNet or a text "
            "encoder.",
        )
    found = single_file_utils.fetch_diffusers_config(_shapes(file))
    return str(found["pretrained_model_name_or_path"])


def held_and_lacking(file: Path, base: Base, config: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The models of a pipeline that a file holds, and those that it does not, by their names in the
    pipeline's configuration.

    Raises:
        ModelError: the file does not hold the denoiser, or single files of this kind are not read.
    """
    if not base.parts:
        raise ModelError(
            f"single files of {base.name} cannot be read (got {shown(file)}).",
            "Give the folder or hub id of a whole pipeline.",
        )
    parts = {part: start for part, start in base.parts.items() if config.get(part, [None])[0]}
    names = list(_shapes(file))
    held = [part for part, start in parts.items() if any(n.startswith(start) for n in names)]
    # Scales are applied to the denoiser's weights alone; what else has them is taken from `config`.
    denoiser = next(iter(base.parts))
    held = [p for p in held if p == denoiser or not _is_scaled(_named(names, base, p))]
    lacking = [part for part in parts if part not in held]
    if denoiser not in held:
        raise ModelError(
            f"{shown(file)} does not hold all weights of a {base.pipeline}'s {denoiser}, named as "
            "in its first release.",
            "Check what the file is, and that `config` is of its kind.",
        )
    return held, lacking


def scaled_denoiser(file: Path, base: Base, dtype: torch.dtype) -> dict[str, Tensor]:
    """The denoiser's weights, where the file has scales to multiply them with; else none.

    Raises:
        ModelError: they are stored in a way that cannot be read.
    """
    names = _named(list(_shapes(file)), base, next(iter(base.parts)))
    return read_scaled(file, names, dtype) if _is_scaled(names) else {}


def eight_bits(file: Path, base: Base, config: dict[str, Any]) -> dict[str, str]:
    """By the parts that a file holds with weights in eight bits, the types of those."""
    names, (held, _) = list(_shapes(file)), held_and_lacking(file, base, config)
    found = {part: kinds_in(file, _named(names, base, part)) for part in held}
    return {part: kinds for part, kinds in found.items() if kinds}


def _is_scaled(names: list[str]) -> bool:
    return any(map(is_scaled, names))


def _named(names: list[str], base: Base, part: str) -> list[str]:
    """Those of a file's names that are a part's. Files of a denoiser alone may name it nowhere."""
    starts = {
        other: tuple(start.partition("transformer.")[0] for start in starts)
        for other, starts in base.parts.items()
    }
    if part != next(iter(base.parts)):
        return [name for name in names if name.startswith(starts[part])]
    others = tuple(start for other in starts if other != part for start in starts[other])
    inner = [name for name in names if name.startswith(UNETS)]
    return inner or [name for name in names if not name.startswith(others)]


def check_complete(file: Path, pipeline: Any) -> None:
    """Raise unless the file holds as many numbers as the denoiser: diffusers fills up what is
    missing with random ones, and says nothing.
    """
    shapes = {name: value for name, value in _shapes(file).items() if is_weight(name)}
    inner = [v for k, v in shapes.items() if k.startswith(UNETS)]
    found = sum(value.numel() for value in inner or shapes.values())
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    needed = sum(value.numel() for value in denoiser.parameters())
    if found < needed:
        raise ModelError(
            f"{shown(file)} does not hold all weights of its denoiser: {found:,} of {needed:,}.",
            "Check that the configuration is that of the model.",
        )


def marked(file: Path) -> dict[str, Any]:
    """What a file says of its scheduler: those who train Stable Diffusion XL on another target put
    empty tensors into it, named v_pred and, for noise levels that end at pure noise, ztsnr.
    """
    names = _shapes(file)
    if "v_pred" not in names:
        return {}
    return {"prediction_type": "v_prediction", "rescale_betas_zero_snr": "ztsnr" in names}


def _shapes(file: Path) -> dict[str, Tensor]:
    """A file's tensors by name, without their values."""
    with safe_open(file, "pt") as content:
        return {
            name: torch.empty(content.get_slice(name).get_shape(), device="meta")
            for name in list(content.keys())
        }
