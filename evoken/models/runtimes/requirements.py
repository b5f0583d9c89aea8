"""Which runtimes, precisions and devices go together, and what has to be installed for them."""

from dataclasses import replace
from importlib.util import find_spec

import torch

from evoken.errors import SettingError, shown
from evoken.models.base import PRECISIONS, RUNTIMES, ModelSpec
from evoken.options import one_of

# Of every runtime but torch itself: its extra of this package, and the modules that come with it.
EXTRAS = {
    "torch-int8": ("int8", ("torchao",)),
    "onnx": ("onnx", ("onnx", "onnxruntime")),
    "openvino": ("openvino", ("openvino",)),
}
POSSIBLE = {
    "torch": PRECISIONS,
    "torch-int8": ("float32", "bfloat16"),
    "onnx": ("float32",),
    "openvino": ("float32",),
}
ON_CPU_ONLY = ("onnx", "openvino")


def check_spec(spec: ModelSpec) -> None:
    """Raise ``SettingError`` unless a model of this spec could run here."""
    one_of("runtime", spec.runtime, RUNTIMES)
    one_of("precision", spec.precision, PRECISIONS)
    if spec.precision not in POSSIBLE[spec.runtime]:
        raise SettingError(
            f"`precision` must be {' or '.join(POSSIBLE[spec.runtime])} with the runtime "
            f"{spec.runtime} (got {spec.precision}).",
            "Change `precision` or `runtime`.",
        )
    if spec.batch < 0:
        raise SettingError(
            f"`batch` must be at least 1, or 0 to be sized by memory (got {spec.batch}).",
            "Use 0, or 16 or more.",
        )
    _check_device(spec)
    if spec.runtime in EXTRAS:
        extra, modules = EXTRAS[spec.runtime]
        if missing := [m for m in modules if find_spec(m) is None]:
            raise SettingError(
                f"the runtime {spec.runtime} is not installed: there is no package "
                f"{' or '.join(missing)}.",
                f"Install it with: pip install 'evoken[{extra}]'",
            )


def _check_device(spec: ModelSpec) -> None:
    try:
        kind = torch.device(spec.device).type
    except RuntimeError as error:
        raise SettingError(
            f"`device` must be one of torch's, such as cpu, cuda or mps (got {shown(spec.device)})."
        ) from error
    if kind != "cpu" and spec.runtime in ON_CPU_ONLY:
        raise SettingError(
            f"`device` must be cpu with the runtime {spec.runtime} (got {shown(spec.device)}).",
            "Set `device` to cpu, or `runtime` to torch.",
        )
    if spec.precision == "float16" and imitates(spec):
        other = "float32" if imitates(replace(spec, precision="bfloat16")) else "bfloat16"
        raise SettingError(
            "this CPU can only imitate float16, at a twentieth of the speed.",
            f"Set `precision` to {other}.",
        )
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    here = ["cpu", *([accelerator.type] if accelerator else [])]
    if kind not in here:
        raise SettingError(
            f"`device` must be one that torch finds here: {', '.join(here)} (got "
            f"{shown(spec.device)}).",
            "Change `device`, or install torch for it.",
        )


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
