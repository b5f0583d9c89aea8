"""The runtimes in one table: what each needs, computes in and runs on; and the check of a spec."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from evoken.errors import SettingError
from evoken.models.base import PRECISIONS, ModelSpec
from evoken.models.runtimes import onnx_runtime, openvino_runtime
from evoken.options import one_of


class Engine(Protocol):
    """A file of this folder that takes a denoiser out of torch."""

    def export(self, module: nn.Module, example: Sequence[Tensor], folder: Path) -> None:
        """Write the module; any number of rows, all other sizes as in the example."""

    def load(self, folder: Path) -> Callable[..., Tensor]:
        """The exported module as a function of tensors."""


@dataclass(frozen=True)
class Runtime:
    """Where a denoiser runs: a row here, and the file of its engine if it has one.

    Attributes:
        precisions: that it computes in.
        allowed: the largest difference from torch in float32 that still is a matter of rounding, in
            shares of the outputs' root mean square.
        extra: of this package, and the modules that come with it; "" for what torch has.
        modules: see ``extra``.
        engine: what exports and loads; None where torch runs the module itself.
        int8: whether weights are kept as int8, everywhere in the model.
        devices: kinds of device that it runs on; () for all that torch has.
        own_threads: it shares its work among the cores by itself, and takes one batch at a time.
    """

    precisions: tuple[str, ...] = PRECISIONS
    allowed: float = 0.0
    extra: str = ""
    modules: tuple[str, ...] = ()
    engine: Engine | None = None
    int8: bool = False
    devices: tuple[str, ...] = ()
    own_threads: bool = False


# Differences were found on four denoisers, trained and random: at most 1e-5 in float32, 0.2 with
# int8 weights, in float32 and in bfloat16.
RUNTIMES = {
    "torch": Runtime(),
    "torch-int8": Runtime(
        precisions=("float32", "bfloat16"),
        allowed=0.6,
        extra="int8",
        modules=("torchao",),
        int8=True,
    ),
    "onnx": Runtime(
        precisions=("float32",),
        allowed=1e-3,
        extra="onnx",
        modules=("onnx", "onnxruntime"),
        engine=onnx_runtime,
        devices=("cpu",),
        own_threads=True,
    ),
    "openvino": Runtime(
        precisions=("float32",),
        allowed=1e-3,
        extra="openvino",
        modules=("openvino",),
        engine=openvino_runtime,
        devices=("cpu",),
        own_threads=True,
    ),
}


def check_spec(spec: ModelSpec) -> None:
    """Raise ``SettingError`` unless a model of this spec could run here."""
    one_of("runtime", spec.runtime, tuple(RUNTIMES))
    one_of("precision", spec.precision, PRECISIONS)
    runtime = RUNTIMES[spec.runtime]
    if spec.precision not in runtime.precisions:
        raise SettingError(f"a precision of {', '.join(runtime.precisions)} in {spec.runtime}",
                           spec.precision, "Change --precision or --runtime.")  # fmt: skip
    if spec.batch < 0:
        raise SettingError("a batch of at least 1, or 0 to size it by memory", str(spec.batch),
                           "Use 0 or 16 or more.")  # fmt: skip
    _check_device(spec)
    if missing := [m for m in runtime.modules if find_spec(m) is None]:
        raise SettingError(f"{' and '.join(missing)} for the runtime {spec.runtime}",
                           "no such package",
                           f'Type: pip install "evoken[{runtime.extra}]"')  # fmt: skip


def _check_device(spec: ModelSpec) -> None:
    try:
        kind = torch.device(spec.device).type
    except RuntimeError as error:
        raise SettingError("a device of torch, such as cpu, cuda or mps", repr(spec.device),
                           "Change --device.") from error  # fmt: skip
    if (devices := RUNTIMES[spec.runtime].devices) and kind not in devices:
        raise SettingError(
            f"the device {' or '.join(devices)} with the runtime {spec.runtime}",
            spec.device,
            f"Use --device {devices[0]} or --runtime torch.",
        )
    if spec.precision == "float16" and imitates(spec):
        other = "float32" if imitates(replace(spec, precision="bfloat16")) else "bfloat16"
        raise SettingError(f"{other} on this CPU",
                           "float16, which it can only imitate, at a twentieth of the speed",
                           f"Use --precision {other}.")  # fmt: skip
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    here = ["cpu", *([accelerator.type] if accelerator else [])]
    if kind not in here:
        raise SettingError(f"a device that torch finds here: {', '.join(here)}",
                           repr(spec.device),
                           "Change --device, or install torch for it.")  # fmt: skip


def imitates(spec: ModelSpec) -> bool:
    """Whether the CPU of this spec has no instructions for its precision, and would take about
    twenty times as long as in float32.
    """
    if spec.precision == "float32" or torch.device(spec.device).type != "cpu":
        return False
    if not torch.backends.mkldnn.is_available():  # as in torch for Apple's processors
        return True
    kernels = torch.ops.mkldnn
    if spec.precision == "bfloat16":
        return not kernels._is_mkldnn_bf16_supported()
    return not kernels._is_mkldnn_fp16_supported()
