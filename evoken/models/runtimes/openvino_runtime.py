"""The denoiser in OpenVINO, converted by tracing; on the CPU, in float32.

Its bfloat16 would round the timestep as well, 979 to 980, which errs ten times as much as bfloat16
in torch does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from evoken.models.batches import cores
from evoken.quiet import quiet

if TYPE_CHECKING:
    import openvino

FILE = "denoiser.xml"


def export(module: nn.Module, example: Sequence[Tensor], folder: Path) -> None:
    """Write the module as OpenVINO's two files; any number of rows.

    The frontend is called directly: ``openvino.convert_model`` reports on its use over the network.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with quiet(), torch.no_grad():
        frontend = FrontEndManager().load_by_framework("pytorch")
        traced = TorchScriptPythonDecoder(module, example_input=tuple(example))
        model = frontend.convert(frontend.load(traced))
    model.reshape({i: openvino.PartialShape([-1, *x.shape[1:]]) for i, x in enumerate(example)})
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)


@cache
def _core() -> openvino.Core:
    """OpenVINO, once for a process.

    Each core makes the stack that signal handlers run on (``sigaltstack``), whose memory goes with
    the core, also where a later one has taken note of it to put it back: then the next signal, such
    as Ctrl-C, ends the process with a segmentation fault.
    """
    import openvino

    return openvino.Core()


def load(folder: Path) -> Callable[..., Tensor]:
    """The converted denoiser as a function of tensors."""
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": cores(),
    }
    compiled = _core().compile_model(folder / FILE, "CPU", options)

    def run(*inputs: Tensor) -> Tensor:
        found = compiled([x.numpy() for x in inputs])
        return torch.from_numpy(found[0].copy())  # the runtime uses its memory again

    return run
