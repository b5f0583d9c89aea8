"""Which model, where and in what precision: all that it takes to build the same one elsewhere."""

from dataclasses import dataclass
from functools import partial

from evoken.options import MODEL, check, setting
from evoken.runtimes import PRECISIONS, RUNTIMES

_model = partial(setting, panel=MODEL)


@dataclass(frozen=True)
class ModelSpec:
    """Enough to build the same model elsewhere.

    Attributes:
        batch: never changes a result.
        encoders: text encoders by name, with commas between them; "" means the family's own choice.
            The spec of a loaded model names them.
        config: its configuration is what a single file is read with, and it gives the parts that
            the file lacks; "" means to guess it from the file, which then has to be whole.
        runtime: of the denoiser; everything else runs in torch, with "torch-int8" on int8 weights,
            too.

    Raises:
        SettingError: a value that is not possible.
    """

    name: str = _model(
        "stickers",
        "'stickers', 'stickers-flow', a folder, a hub id or a .safetensors file.",
        flag="model",
    )
    precision: str = _model("float32", "Precision of the arithmetic", choices=PRECISIONS)
    batch: int = _model(
        0, "Most latents per forward pass, rounded up to 16", least=1, zero="what fits"
    )
    device: str = _model("cpu", "A torch device: cpu, cuda, mps or another.")
    size: int = _model(0, "Side of the pictures in pixels", least=1, zero="the model's own")
    encoders: str = _model("", "Text encoders that a word lives in, such as 'clip_l,clip_g'.")
    config: str = _model(
        "",
        "For a single file: a folder or hub id of a pipeline of the same kind, which also gives "
        "what the file lacks.",
        flag="model-config",
    )
    runtime: str = _model("torch", "Where the denoiser runs", choices=tuple(RUNTIMES))

    def __post_init__(self) -> None:
        check(self)
