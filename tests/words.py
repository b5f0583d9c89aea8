"""Words and files of words for the tests."""

import io
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from evoken.models.bases import BASES, FLUX, SD1, SD2, SD3, SDXL
from evoken.words.layouts import Embedding

BASE_OF = {"SD1": SD1, "SD2": SD2, "SDXL": SDXL, "SD3": SD3, "FLUX": FLUX}
WIDTHS = {name: width for base in BASES for name, width in base.widths.items()}
OLD = {"_use_new_zipfile_serialization": False}


def vectors(width: int, count: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed + width))


def embedding(base: str, count: int = 1, t5: bool = False) -> Embedding:
    names = [n for n in BASE_OF[base].widths if t5 or n != "t5xxl"]
    about = {"model": "some/model", "evoken": "0.1.0", "architecture": BASE_OF[base].architecture}
    parts = {name: vectors(WIDTHS[name], count) for name in names}
    return Embedding("<my cat>", parts, about, "token" if len(names) == 1 else "encoders")


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[n], second[n]) for n in first)


def save(tensors: dict[str, Tensor], header: dict[str, str] | None = None) -> bytes:
    """A safetensors file, by the library."""
    return safetensors.torch.save({n: t.clone() for n, t in tensors.items()}, header)


def pt(content: Any, **options: Any) -> bytes:
    """A file of torch."""
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def a1111_dict(one: Tensor) -> dict[str, Any]:
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": one},
        "name": "<my cat>",
        "step": 500,
        "sd_checkpoint": "ab12",
        "sd_checkpoint_name": "v1-5",
    }
