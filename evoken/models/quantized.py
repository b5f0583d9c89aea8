"""Quantised weights: the ways that can be read, what they need, and the layers that hold them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from evoken.errors import ModelError, SettingError, shown
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec

ENTRY = "quantization_config"  # of a part's config.json
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Method:
    """A way to quantise: a row here, by its name in configurations.

    Attributes:
        modules: that it needs.
        install: what pip installs them with.
        only_accelerated: the parts, by what their names begin with, that its libraries load on no
            CPU.
        moves: whether all that a weight needs goes with it where it goes, as `offload` asks.
    """

    modules: tuple[str, ...]
    install: str
    only_accelerated: tuple[str, ...] = ()
    moves: bool = True


GGUF = Method(("accelerate", "gguf"), "'evoken[quantized]'")
# Of folders. All of their values come from safetensors and JSON, and none is code.
METHODS = {
    "bitsandbytes": Method(
        ("accelerate", "bitsandbytes"),
        "accelerate bitsandbytes",
        only_accelerated=("unet", "transformer", "vae"),
        moves=False,  # scales are attributes of a parameter or of its layer
    ),
    "sdnq": Method(("accelerate", "sdnq"), "sdnq"),
    "torchao": Method(("accelerate", "torchao"), "'evoken[quantized]'"),
}


def check_can_read(part: str, config: Mapping[str, Any], of: str, spec: ModelSpec) -> bool:
    """Whether a part is quantised.

    Args:
        part: its name in the pipeline.
        config: of the part.
        of: the pipeline's folder or hub id.

    Raises:
        ModelError: it is, in a way that cannot be read, or not on the spec's device, or not with
            the packages that are installed.
        SettingError: it is, and the spec's runtime cannot run it, or it cannot be offloaded.
    """
    entry = config.get(ENTRY)
    if entry is None:
        return False
    name = method_of(entry)
    what = f"the {part} of {shown(of, 200)} is quantised"
    if name not in METHODS:
        raise ModelError(
            f"{what} by {shown(name)}, which cannot be read.",
            f"Use a copy that is quantised by {' or '.join(METHODS)}, a GGUF file, or one that is "
            "not quantised.",
        )
    check_installed(METHODS[name], f"{what} by {name}")
    check_runtime(spec)
    if part.startswith(METHODS[name].only_accelerated) and torch.device(spec.device).type == "cpu":
        raise ModelError(
            f"{what} by {name}, which cannot run on a CPU there (`device` is {spec.device}).",
            "Set `device` to a GPU, or use a copy that is quantised by torchao or sdnq, or a GGUF "
            "file.",
        )
    if spec.offload and not METHODS[name].moves:
        raise SettingError(
            f"`offload` cannot be used here: {what} by {name}, whose layers cannot leave a card.",
            "Leave `offload` out, or use a copy that is quantised by torchao or sdnq, or a GGUF "
            "file.",
        )
    return True


def method_of(entry: Any) -> str:
    """The name of the way to quantise that a configuration's entry says; "" where it says none."""
    if not isinstance(entry, Mapping):
        return ""
    if entry.get("load_in_4bit") or entry.get("load_in_8bit"):
        return "bitsandbytes"
    name = entry.get("quant_method") or ""
    return str(getattr(name, "value", name))  # loaded ones are of an enumeration


def check_installed(method: Method, what: str) -> None:
    """Raise ``ModelError`` unless all packages are there; ``what`` is "FILE is a GGUF file"."""
    if missing := [m for m in method.modules if find_spec(m) is None]:
        raise ModelError(
            f"{what}, and there is no package {' or '.join(missing)}.",
            f"Install what it needs with: pip install {method.install}",
        )


def check_runtime(spec: ModelSpec) -> None:
    """Raise ``SettingError`` unless the spec's runtime runs quantised weights: others make their
    own of plain ones.
    """
    if spec.runtime != "torch":
        raise SettingError(
            f"`runtime` must be torch for a model whose weights are quantised (got "
            f"{spec.runtime}).",
            "Set `runtime` to torch, or use a copy that is not quantised.",
        )


def in_words(parts: Mapping[str, Any]) -> dict[str, str]:
    """How those parts of a loaded pipeline are quantised that are, by their names, such as
    "torchao Int8WeightOnlyConfig" or "gguf Q8_0".
    """
    quantizers = {name: getattr(part, "hf_quantizer", None) for name, part in parts.items()}
    return {
        name: _in_words(parts[name], quantizer.quantization_config.to_dict())
        for name, quantizer in quantizers.items()
        if quantizer is not None
    }


def _in_words(module: nn.Module, entry: Mapping[str, Any]) -> str:
    """Of a part, by its configuration's entry."""
    name = method_of(entry)
    if name == "gguf":
        found = {x.quant_type.name for x in module.parameters() if hasattr(x, "quant_type")}
        return " ".join([name, *sorted(found)])
    if name == "bitsandbytes":
        kind = f"4-bit {entry['bnb_4bit_quant_type']}" if entry["load_in_4bit"] else "8-bit"
    elif name == "torchao":
        kind = _torchao_kind(entry["quant_type"])
    else:
        kind = entry.get("weights_dtype", "")
    return f"{name} {kind}".strip()


def _torchao_kind(entry: Any) -> str:
    """Of what is written for all layers that have nothing of their own."""
    inner = entry.get("default", entry) if isinstance(entry, Mapping) else entry
    return str(inner.get("_type", "")) if isinstance(inner, Mapping) else str(inner)


def said(precision: str, runtime: str, parts: Mapping[str, str]) -> str:
    """A model's precision in one line: of its arithmetic, and how its weights are kept where they
    are in fewer bits, such as "bfloat16; transformer: gguf Q8_0".
    """
    kept = {"weights": "int8"} if RUNTIMES[runtime].int8 else dict(parts)
    return "; ".join([precision, *(f"{name}: {words}" for name, words in kept.items())])


def is_quantized(layer: nn.Module) -> bool:
    """Whether weights of the layer itself are kept in a way that only it can read."""
    return any(
        type(x) is not nn.Parameter or x.dtype not in FLOATS
        for x in layer.parameters(recurse=False)
    )


def stored(value: Tensor) -> Iterator[Tensor]:
    """The plain tensors that a tensor is made of, as they are in a file."""
    if not hasattr(value, "__tensor_flatten__"):  # as torch asks subclasses to have
        yield value
        return
    for name in value.__tensor_flatten__()[0]:
        yield from stored(getattr(value, name))
