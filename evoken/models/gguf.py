"""GGUF files: a denoiser whose weights are quantised block by block."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evoken.errors import ModelError, reason_of, shown

MAGIC = b"GGUF"
SHAPE = "comfy.gguf.orig_shape."  # what converters for ComfyUI write of weights in another shape


def is_gguf(file: Path) -> bool:
    """Whether a file is one, by its content."""
    with file.open("rb") as content:
        return content.read(len(MAGIC)) == MAGIC


def read_gguf(file: Path) -> tuple[dict[str, Tensor], str]:
    """The weights of a file as diffusers reads them, and what the file says that they are of ("" if
    it does not say). What no linear layer can hold in blocks becomes plain floats.

    Raises:
        ModelError: it is damaged, or quantised in a way that diffusers does not know.
    """
    from gguf import GGMLQuantizationType, GGUFReader

    from evoken.libraries import diffusers

    reads = diffusers.quantizers.gguf.utils

    floats = (GGMLQuantizationType.F32, GGMLQuantizationType.F16)
    found: dict[str, Tensor] = {}
    try:
        reader = GGUFReader(file)
        said = _said(reader, "general.architecture")
        for tensor in reader.tensors:
            kind, values = tensor.tensor_type, torch.from_numpy(tensor.data.copy())
            if kind not in floats:
                if kind not in reads.SUPPORTED_GGUF_QUANT_TYPES:
                    raise ModelError(
                        f"{shown(file)} has weights in {kind.name}, which diffusers cannot read.",
                        "Use a file with other weights, such as Q4_K, Q5_K or Q8_0.",
                    )
                shape = _said(reader, SHAPE + tensor.name)
                values = reads.GGUFParameter(values, quant_type=kind)
                if shape or values.ndim != 2 or kind == GGMLQuantizationType.BF16:
                    values = reads.dequantize_gguf_tensor(values).float()
                    values = values.reshape(shape) if shape else values
            found[tensor.name] = values
    except ModelError:
        raise
    except Exception as error:  # of what kind depends on where the reader stumbles
        raise ModelError(
            f"{shown(file)} is damaged: {reason_of(error)}.", "Copy or download it again."
        ) from error
    return found, said if isinstance(said, str) else ""


def _said(reader: Any, name: str) -> Any:
    """An entry of the file's header; None where there is none."""
    field = reader.get_field(name)
    return None if field is None else field.contents()
