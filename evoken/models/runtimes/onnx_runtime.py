"""The denoiser in ONNX Runtime, exported by tracing; on the CPU, in float32."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from evoken.models.batches import cores
from evoken.quiet import quiet

FILE = "denoiser.onnx"
SPINS = "0"  # whether threads that wait keep a core busy: other work may want it (benchmarks.busy)


def export(module: nn.Module, example: Sequence[Tensor], folder: Path) -> None:
    """Write the module as ONNX; any number of rows, all other sizes as in the example.

    Traced: torch's other exporter took thirty times as long for a graph that ran no faster.
    """
    inputs = [f"input{i}" for i in range(len(example))]
    with quiet(), torch.no_grad():
        torch.onnx.export(
            module,
            tuple(example),
            str(folder / FILE),
            dynamo=False,
            opset_version=18,
            input_names=inputs,
            output_names=["output"],
            dynamic_axes={name: {0: "rows"} for name in (*inputs, "output")},
        )


def load(folder: Path) -> Callable[..., Tensor]:
    """The exported denoiser as a function of tensors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", SPINS)
    session = onnxruntime.InferenceSession(
        str(folder / FILE), options, providers=["CPUExecutionProvider"]
    )
    names = [x.name for x in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        rows = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, rows)[0])

    return run
