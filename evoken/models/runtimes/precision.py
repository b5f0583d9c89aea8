"""In which precision a model computes, and in which its weights are kept."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from evoken.models.runtimes.int8 import to_int8
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec


@contextmanager
def arithmetic(spec: ModelSpec) -> Iterator[None]:
    """The context in which a model of this spec computes."""
    with ExitStack() as stack:
        if spec.precision != "float32":
            stack.enter_context(warnings.catch_warnings())
            # Some norms keep their weights in float32 beside it, as they should.
            warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
        stack.enter_context(_autocast(spec))
        yield


def _autocast(spec: ModelSpec) -> torch.autocast:
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
    kept = torch.float32 if spec.precision == "float32" else _autocast(spec).fast_dtype
    for layer in module.modules():
        dtype = kept if isinstance(layer, (nn.Linear, nn.Conv2d)) else torch.float32
        for value in layer.parameters(recurse=False):
            value.data = value.data.to(dtype)
        for buffer in filter(torch.is_floating_point, layer.buffers(recurse=False)):
            buffer.data = buffer.data.float()
