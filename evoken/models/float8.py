"""Single files with weights in eight bits, as programs for them write them: floats, and numbers to
multiply them with.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from evoken.errors import ModelError, shown

SCALES = (".scale_weight", ".weight_scale")  # what the layer's weight is multiplied with
# What only other arithmetic needs, and a mark: "scaled_fp8", before which may be a part's name.
UNUSED = (".scale_input", ".input_scale", "scaled_fp8")
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
NAMES = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}  # of their types in safetensors


def kinds_in(file: Path, names: Iterable[str]) -> str:
    """The types of eight bits among weights, such as "float8_e4m3fn"; "" where there are none."""
    with safe_open(file, "pt") as content:
        weights = (name for name in names if not name.endswith(UNUSED))
        types = {content.get_slice(name).get_dtype() for name in weights}
    return " ".join(sorted(NAMES[kind] for kind in types if kind in NAMES))


def is_scaled(name: str) -> bool:
    """Whether a tensor is what others have to be multiplied with."""
    return name.endswith(SCALES)


def is_weight(name: str) -> bool:
    """Whether a tensor is a weight itself, and nothing that belongs to one in eight bits."""
    return not name.endswith((*SCALES, *UNUSED))


def read_scaled(file: Path, names: Sequence[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights by name, multiplied with their scales.

    Args:
        names: of the weights, and of their scales.
        dtype: that they become.

    Raises:
        ModelError: a scale is of no weight in eight bits, or not one number or one for each row.
    """
    found: dict[str, Tensor] = {}
    with safe_open(file, "pt") as content:
        for name in filter(is_weight, names):
            value = content.get_tensor(name)
            layer = name.removesuffix(".weight")
            scale = next((layer + end for end in SCALES if layer + end in names), "")
            found[name] = _scaled(file, name, value, content.get_tensor(scale)) if scale else value
            if found[name].is_floating_point():
                found[name] = found[name].to(dtype)
    return found


def _scaled(file: Path, name: str, value: Tensor, scale: Tensor) -> Tensor:
    """In float32: the products of small numbers are no float16."""
    if value.dtype not in EIGHT_BITS or scale.numel() not in (1, len(value)):
        raise ModelError(
            f"{shown(name)} in {shown(file)} is {str(value.dtype).removeprefix('torch.')} of shape "
            f"{list(value.shape)} with {scale.numel():,} scales, which cannot be read.",
            "Use a file in float8 with one scale for each layer, in bfloat16, or in GGUF.",
        )
    shape = (-1, *[1] * (value.ndim - 1)) if scale.numel() > 1 else ()
    return value.float() * scale.float().reshape(shape)
