"""Whether a model of a spec could run here."""

from dataclasses import replace
from importlib.util import find_spec

import torch

from evoken.errors import SettingError, shown
from evoken.models.card import OWN_MEMORY
from evoken.runtimes import AUTO, RUNTIMES
from evoken.spec import ModelSpec


def chosen(spec: ModelSpec, trained_in: str = "float32") -> ModelSpec:
    """The spec with a device and a precision in place of "auto", and without `offload` where that
    changes nothing.

    Args:
        trained_in: the precision that this kind of model was trained in.
    """
    runtime, device, precision = RUNTIMES[spec.runtime], spec.device, spec.precision
    if device == AUTO:
        found = torch.accelerator.current_accelerator(check_available=True)
        here = found.type if found else "cpu"
        device = here if here in (runtime.devices or (here,)) else "cpu"
    if precision == AUTO:
        wanted = ("float32",) if device == "cpu" else (trained_in, "bfloat16", "float32")
        precision = next(p for p in wanted if p in runtime.precisions)
    # A device that is none is refused by ``check_spec``.
    offload = spec.offload and device.split(":")[0] not in OWN_MEMORY
    return replace(spec, device=device, precision=precision, offload=offload)


def check_spec(spec: ModelSpec) -> None:
    """Raise ``SettingError`` unless a model of this spec could run here."""
    runtime = RUNTIMES[spec.runtime]
    if spec.precision not in runtime.precisions:
        raise SettingError(
            f"`precision` must be {' or '.join(runtime.precisions)} with the runtime "
            f"{spec.runtime} (got {spec.precision}).",
            "Change `precision` or `runtime`.",
        )
    _check_device(spec)
    if missing := [m for m in runtime.modules if find_spec(m) is None]:
        raise SettingError(
            f"the runtime {spec.runtime} is not installed: there is no package "
            f"{' or '.join(missing)}.",
            f"Install it with: pip install 'evoken[{runtime.extra}]'",
        )


def _check_device(spec: ModelSpec) -> None:
    try:
        kind = torch.device(spec.device).type
    except RuntimeError as error:
        raise SettingError(
            f"`device` must be one of torch's, such as cpu, cuda or mps (got {shown(spec.device)})."
        ) from error
    if (devices := RUNTIMES[spec.runtime].devices) and kind not in devices:
        raise SettingError(
            f"`device` must be {' or '.join(devices)} with the runtime {spec.runtime} (got "
            f"{shown(spec.device)}).",
            f"Set `device` to {devices[0]}, or `runtime` to torch.",
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
