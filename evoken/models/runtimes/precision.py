"""In which precision a model computes, and in which its weights are kept."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from evoken.errors import ModelError, reason_of
from evoken.models.quantized import is_quantized
from evoken.models.runtimes.int8 import to_int8
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec

ROWS = 16  # through a layer, to see whether it runs: some libraries have other code for one row
ALIGNED = 64  # bytes


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
    whenever they are used. Everything else is float32, but for layers that are quantised, which
    stay as they are.
    """
    if RUNTIMES[spec.runtime].int8:
        to_int8(module)
        return
    kept = torch.float32 if spec.precision == "float32" else _autocast(spec).fast_dtype
    for layer in module.modules():
        if is_quantized(layer):
            continue
        dtype = kept if isinstance(layer, (nn.Linear, nn.Conv2d)) else torch.float32
        for value in layer.parameters(recurse=False):
            value.data = _aligned(value.data.to(dtype))
        for buffer in filter(torch.is_floating_point, layer.buffers(recurse=False)):
            buffer.data = _aligned(buffer.data.float())


def _aligned(value: Tensor) -> Tensor:
    """The tensor where torch's allocator would put it: where loaders leave weights in the file's
    own memory, kernels round as its layout has it.
    """
    return value if value.data_ptr() % ALIGNED == 0 else value.clone()


@torch.no_grad()
def check_layers(module: nn.Module, spec: ModelSpec) -> None:
    """Raise ``ModelError`` unless the quantised layers run on the spec's device, in its precision.
    Those that only compute in the precision that they were made from are given that, and give back
    what they are given.
    """
    found: dict[tuple[object, ...], torch.dtype | None] = {}
    for layer in module.modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d) or not is_quantized(layer):
            continue
        weight = layer.weight
        kind = (type(layer), type(weight), weight.dtype, getattr(weight, "quant_type", None))
        if kind not in found:
            found[kind] = _its_own(layer, spec)
        if own := found[kind]:
            if layer.bias is not None:
                layer.bias.data = layer.bias.data.to(own)
            layer.register_forward_pre_hook(lambda _, given, own=own: (given[0].to(own),))
            layer.register_forward_hook(lambda _, given, out: out.float())


def _its_own(layer: nn.Linear | nn.Conv2d, spec: ModelSpec) -> torch.dtype | None:
    """The only precision in which a quantised layer runs; None where it runs as any other layer."""
    if isinstance(layer, nn.Linear):
        shape: tuple[int, ...] = (layer.in_features,)
    else:  # as many pixels as one of its outputs sees, at least
        sides = (d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        shape = (layer.in_channels, *sides)
    given = torch.zeros(ROWS, *shape, device=spec.device)
    own, bias, where = layer.weight.dtype, layer.bias, layer.weight.device
    layer.to(spec.device)
    try:
        with arithmetic(spec):
            layer(given)
        return None
    except Exception as error:
        reason = reason_of(error)
    try:
        if not own.is_floating_point:
            raise ModelError(reason)
        layer.bias = None if bias is None else nn.Parameter(bias.to(own), requires_grad=False)
        with arithmetic(spec):
            layer(given.to(own))
        return own
    except Exception as error:
        raise ModelError(
            f"weights that are quantised as {type(layer.weight).__name__} cannot be used on "
            f"{spec.device} in {spec.precision}: {reason}.",
            "Change `device` or `precision`, or use a copy of the model that is quantised in "
            "another way.",
        ) from error
    finally:
        layer.bias = bias
        layer.to(where)
