"""Weights as 8-bit integers with a scale per output channel, in torch.

A quarter of the memory, not more speed: every weight is made a float again where it is used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evoken.models.memory import trim
from evoken.quiet import quiet

ROWS = 4  # at most, through a feed-forward layer at a time
AT_ONCE = 2**22  # weights of a convolution that are floats at the same time; some have 2**25
LARGE = 2**20  # weights of a layer from which on what it leaves in memory is worth a clearing


class Int8Convolution(nn.Module):
    """A two-dimensional convolution whose weights are int8; torchao has linear layers only."""

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        """
        Args:
            layer: what it replaces; zero padding only, as everywhere in diffusers' models.
        """
        super().__init__()
        largest = layer.weight.abs().amax((1, 2, 3), keepdim=True)
        scale = largest.clamp(min=torch.finfo(torch.float32).tiny) / 127
        self.register_buffer("weight", (layer.weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = layer.bias
        self.options: dict[str, Any] = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer.groups,
        }

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Conv2d``; channels of the output in parts, so that few weights are floats."""
        whole = self.options["groups"] > 1  # each group has inputs of its own
        channels = len(self.weight) if whole else max(1, AT_ONCE // self.weight[0].numel())
        biases = () if self.bias is None else self.bias.split(channels)
        weights = zip_longest(self.weight.split(channels), self.scale.split(channels), biases)
        return torch.cat([self._part(x, *part) for part in weights], 1)

    def _part(self, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        floats = weight.to(x.dtype).mul_(scale.to(x.dtype))
        return F.conv2d(x, floats, bias, **self.options)


@torch.no_grad()
def to_int8(module: nn.Module) -> nn.Module:
    """The module with int8 weights in its linear layers and convolutions and everything else in
    float32, changed in place and layer by layer so that no second copy is held. Feed-forward
    layers, whose hidden states are the largest of a denoiser, take a few rows at a time; what large
    layers leave in a processor's memory is returned to the system.

    Differs: scales per output channel and no quantised activations, which is torchao's
    ``Int8WeightOnlyConfig``.

    Args:
        module: in float32 or in half precision.
    """
    for block in module.modules():
        if hasattr(block, "set_chunk_feed_forward"):
            block.register_forward_pre_hook(_a_few_rows, with_kwargs=True)
        for layer in block.children() if isinstance(block, nn.ModuleList) else ():
            if sum(x.numel() for x in layer.parameters()) >= LARGE:
                layer.register_forward_hook(_clear)
    with quiet():
        _convert(module)
    return module.float()


def _convert(parent: nn.Module) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    for name, layer in list(parent.named_children()):
        if isinstance(layer, nn.Conv2d):
            setattr(parent, name, Int8Convolution(layer.float()))
        elif isinstance(layer, nn.Linear):
            quantize_(layer.float(), Int8WeightOnlyConfig())
        else:
            _convert(layer)
            continue
        trim()  # or the floats would leave holes as large as they were


def _a_few_rows(block: Any, args: tuple[Tensor, ...], inputs: dict[str, Tensor]) -> None:
    """How many rows at a time: a divisor of all, as diffusers asks."""
    count = len(args[0] if args else inputs["hidden_states"])
    block.set_chunk_feed_forward(max(n for n in range(1, ROWS + 1) if count % n == 0), dim=0)


def _clear(_: nn.Module, __: object, found: Any) -> None:
    out = found[0] if isinstance(found, tuple) else found
    if out.device.type == "cpu":
        trim()


@contextmanager
def in_float32(module: nn.Module) -> Iterator[None]:
    """Within the block, a module whose weights are in half precision computes in float32: those of
    one layer at a time are made larger.
    """
    kept: dict[Tensor, Tensor] = {}

    def widen(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        for value in layer.parameters(recurse=False):
            kept[value], value.data = value.data, value.data.float()
        # Some modules look at the weights of an inner one, and give it inputs like those.
        return tuple(x.float() if _is_half(x) else x for x in inputs)

    def narrow(layer: nn.Module, *_: object) -> None:
        for value in layer.parameters(recurse=False):
            value.data = kept.pop(value)

    small = [m for m in module.modules() if any(map(_is_half, m.parameters(recurse=False)))]
    hooks = [m.register_forward_pre_hook(widen) for m in small]
    hooks += [m.register_forward_hook(narrow) for m in small]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for value, before in kept.items():  # of a layer that failed
            value.data = before


def _is_half(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
