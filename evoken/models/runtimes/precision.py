"""In which precision a model computes, and in which its weights are kept."""

import torch
from torch import nn

from evoken.models.runtimes.int8 import to_int8
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec


def arithmetic(spec: ModelSpec) -> torch.autocast:
    """The context in which a model of this spec computes."""
    half = torch.float16 if spec.precision == "float16" else torch.bfloat16
    kind = torch.device(spec.device).type
    return torch.autocast(kind, half, enabled=spec.precision != "float32")


def keep_weights(module: nn.Module, spec: ModelSpec) -> None:
    """Keep the weights of linear layers and convolutions as the spec says: int8, or in its
    precision, which is half the memory, and the same bits, for ``arithmetic`` would round them so
    whenever they are used. Everything else is float32.
    """
    if RUNTIMES[spec.runtime].int8:
        to_int8(module)
        return
    kept = torch.float32 if spec.precision == "float32" else arithmetic(spec).fast_dtype
    for layer in module.modules():
        dtype = kept if isinstance(layer, (nn.Linear, nn.Conv2d)) else torch.float32
        for value in layer.parameters(recurse=False):
            value.data = value.data.to(dtype)
        for buffer in filter(torch.is_floating_point, layer.buffers(recurse=False)):
            buffer.data = buffer.data.float()
