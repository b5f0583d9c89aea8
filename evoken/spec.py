"""Which model, where and in what precision: enough to build the same one elsewhere."""

import os
from dataclasses import dataclass
from functools import partial
from typing import Any

from evoken.options import MODEL, check, documented, setting
from evoken.runtimes import AUTO, PRECISIONS, RUNTIMES

_model = partial(setting, panel=MODEL)


@documented
@dataclass(frozen=True)
class ModelSpec:
    """Which model, and how it runs.

    Attributes:
        name: "stickers", "stickers-flow", a folder, a hub id, or a .safetensors or .gguf file.
        batch: never changes a result.
        encoders: names of the text encoders that a word has vectors for, separated by commas; ""
            means the family's default. The spec of a loaded model names them, and its device and
            precision in place of "auto".
        config: for a single file, a folder or hub id with its configuration and the parts that the
            file lacks; "" means to guess it from the file, which then must be complete.
        runtime: where the denoiser runs. Everything else runs in torch; with "torch-int8" its
            weights are int8 too.
        offload: changes no result. The spec of a loaded model says false where it changes nothing.

    Raises:
        SettingError: a value is not possible.
    """

    name: str = _model(
        "stickers",
        "'stickers', 'stickers-flow', a folder, a hub id, or a .safetensors or .gguf file.",
        flag="model",
    )
    precision: str = _model(
        "float32",
        "Precision of the arithmetic; auto is float32 on a CPU, and on a GPU what this kind of "
        "model was trained in",
        choices=(*PRECISIONS, AUTO),
    )
    batch: int = _model(
        0, "Most latents per forward pass, rounded up to 16", least=1, most=4096, zero="what fits"
    )
    device: str = _model(
        "cpu",
        "A torch device: cpu, cuda, mps or another; auto is a GPU where there is one.",
    )
    size: int = _model(
        0, "Side of the pictures in pixels", least=1, most=2048, zero="the model's own"
    )
    encoders: str = _model("", "Text encoders that a word lives in, such as 'clip_l,clip_g'.")
    config: str = _model(
        "",
        "For a single file: a folder or hub id of a pipeline of the same kind, which also gives "
        "what the file lacks.",
        flag="model-config",
    )
    runtime: str = _model("torch", "Where the denoiser runs", choices=tuple(RUNTIMES))
    offload: bool = _model(
        False,
        "Keep one part of the model on the card at a time, and the others in the machine's memory; "
        "on a CPU or a Mac, where both are one, this changes nothing.",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.name and not self.name.strip("./"):  # "." has no name, and is another place later
            object.__setattr__(self, "name", os.path.abspath(self.name))


FITTING = {"device": AUTO, "precision": AUTO}  # of a model that runs where it runs best


def fitting(name: str = "stickers", **given: Any) -> ModelSpec:
    """A model where it runs best: on a GPU where there is one, in the precision that it was trained
    in. What is given stays.
    """
    return ModelSpec(**{"name": name} | FITTING | given)
