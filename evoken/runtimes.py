"""The runtimes in one table: what each needs, computes in and runs on.

Their files are imported when they are needed: settings are made of this table, and need no torch.
"""

from dataclasses import dataclass

PRECISIONS = ("float32", "bfloat16", "float16")
AUTO = "auto"  # in place of a device or a precision: what suits this machine and the model


@dataclass(frozen=True)
class Runtime:
    """Where a denoiser runs: a row here, and the file of its engine if it has one.

    Attributes:
        precisions: that it computes in.
        allowed: the largest difference from torch in float32 that still is a matter of rounding, in
            shares of the outputs' root mean square.
        extra: of this package, and the modules that come with it; "" for what torch has.
        modules: see ``extra``.
        engine: the module that exports and loads, an ``Engine``; "" where torch runs the denoiser.
        int8: whether weights are kept as int8, everywhere in the model.
        devices: kinds of device that it runs on; () for all that torch has.
        own_threads: it shares its work among the cores by itself, and takes one batch at a time.
    """

    precisions: tuple[str, ...] = PRECISIONS
    allowed: float = 0.0
    extra: str = ""
    modules: tuple[str, ...] = ()
    engine: str = ""
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
        engine="evoken.models.runtimes.onnx_runtime",
        devices=("cpu",),
        own_threads=True,
    ),
    "openvino": Runtime(
        precisions=("float32",),
        allowed=1e-3,
        extra="openvino",
        modules=("openvino",),
        engine="evoken.models.runtimes.openvino_runtime",
        devices=("cpu",),
        own_threads=True,
    ),
}
