"""The one door to models: every model, CLIP and judge is loaded by its name here."""

from functools import cache
from pathlib import Path

import torch

from evoken.errors import ModelError, shown
from evoken.models.base import ModelSpec
from evoken.models.batches import UNIT
from evoken.models.clip import Clip
from evoken.models.embedded import EMBEDDED, STICKERS
from evoken.models.families.latent import LatentModel
from evoken.models.judge import Judge
from evoken.models.pipelines import load_pipeline
from evoken.models.runtimes.exports import Check
from evoken.models.runtimes.requirements import check_spec

DEFAULT_CLIP = "openai/clip-vit-large-patch14"  # the text encoder of Stable Diffusion 1.x

DEFAULT_SPEC = ModelSpec()


def load_model(spec: ModelSpec = DEFAULT_SPEC) -> LatentModel:
    """The model of a spec; by default the sticker model.

    Raises:
        ModelError: it cannot be found or is of another family.
        SettingError: the precision, the batch, the device, the runtime, the size or the encoders
            are not possible.
    """
    check_spec(spec)
    if spec.name == "stickers-flow":
        # It was trained to do without the zeros in T5's place.
        return load_pipeline(str(STICKERS / spec.name), spec, t5_tokens=0)
    if spec.name in EMBEDDED:
        return load_pipeline(str(STICKERS / spec.name), spec)
    looks_like_path = spec.name.startswith((".", "/", "~")) or spec.name.count("/") != 1
    path = Path(spec.name).expanduser()
    if looks_like_path and not path.exists():
        raise ModelError(
            f"`name` must be {', '.join(EMBEDDED)}, a folder, a file or a hub id (got "
            f"{shown(spec.name, 200)}).",
            "Check the spelling.",
        )
    return load_pipeline(str(path) if path.exists() else spec.name, spec)


@torch.no_grad()
def warm_up(model: LatentModel) -> Check | None:
    """Bring the denoiser onto its runtime now instead of at its first call, which counts nothing.

    Returns:
        How near it comes to torch, where that had to be found out now.
    """
    if model.spec.runtime == "torch":
        return None
    calls, hidden = model.calls, model.condition([""])
    model.denoise(model.noise(range(UNIT)), torch.linspace(0.02, 0.98, UNIT),
                  hidden.expand(UNIT, *hidden.shape[1:]))  # fmt: skip
    model.calls = calls
    return model.check


def default_clip(model: str) -> str:
    """The name of the CLIP that goes with a model by default."""
    return "stickers" if model in EMBEDDED else DEFAULT_CLIP


@cache
def load_clip(name: str = "stickers", device: str = "cpu") -> Clip:
    """The CLIP that goes with a model: the sticker CLIP, a folder, or a hub id."""
    return Clip.load(str(STICKERS / "clip") if name in EMBEDDED else name, device)


@cache
def load_judge() -> Judge:
    """The judge of the sticker world."""
    return Judge.load(STICKERS / "judge")
