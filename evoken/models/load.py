"""The one door to models: every model, CLIP and judge is loaded by its name here."""

from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from evoken.arrays import PathLike
from evoken.errors import ModelError, shown
from evoken.models.batches import UNIT
from evoken.models.clip import Clip
from evoken.models.embedded import EMBEDDED, STICKERS
from evoken.models.families.latent import LatentModel
from evoken.models.image_encoder import ImageEncoder, Scorer, kind_of
from evoken.models.judge import Judge
from evoken.models.provenance import is_hub_id
from evoken.models.runtimes.exports import Check
from evoken.models.runtimes.requirements import check_spec, chosen
from evoken.progress import SILENT, Display
from evoken.quiet import quiet, quiet_loading
from evoken.runtimes import AUTO
from evoken.spec import ModelSpec, fitting

DEFAULT_CLIP = "openai/clip-vit-large-patch14"  # the text encoder of Stable Diffusion 1.x


def load_model(spec: ModelSpec | str = "stickers", learning: bool = False) -> LatentModel:
    """Load a model by its name or spec; by default the sticker model. By its name, it is loaded
    where it runs best (see ``evoken.spec.fitting``).

    Args:
        learning: whether words are to be learned on it.

    Raises:
        ModelError: it cannot be found, its family is not supported, or it is distilled where words
            are to be learned.
        SettingError: precision, batch, device, runtime, size or encoders are not possible here.
    """
    with quiet():
        spec = fitting(spec) if isinstance(spec, str) else spec
        check_spec(chosen(spec))
    check_place(spec.name)
    path = Path(spec.name).expanduser()
    with quiet_loading():
        from evoken.models.pipelines import load_pipeline
        from evoken.models.shared import shared_parts

        if spec.name in EMBEDDED:
            # The flow was trained to do without the zeros in T5's place.
            family: dict[str, Any] = {"t5_tokens": 0} if spec.name == "stickers-flow" else {}
            parts = partial(shared_parts, spec.name)
            return load_pipeline(str(STICKERS / spec.name), spec, parts, **family)
        return load_pipeline(str(path) if path.exists() else spec.name, spec, learning=learning)


def check_place(name: str, setting: str = "name", places: str = "a folder, a file") -> None:
    """Raise ``ModelError`` unless a model may be there.

    Args:
        setting: that names it.
        places: where it may be, beside those that are included and the hub.
    """
    if name not in EMBEDDED and not Path(name).expanduser().exists() and not is_hub_id(name):
        raise ModelError(
            f"`{setting}` must be {', '.join(EMBEDDED)}, {places} or a hub id (got "
            f"{shown(name, 200)}).",
            "Check the spelling.",
        )


@torch.no_grad()
def warm_up(model: LatentModel) -> Check | None:
    """Bring the denoiser onto its runtime now instead of at its first call, which counts nothing.

    Returns:
        How near it comes to torch, where that had to be found out now.
    """
    if model.spec.runtime == "torch":
        return None
    calls, hidden = model.calls, model.condition([""])
    model.denoise(
        model.noise(range(UNIT)),
        torch.linspace(0.02, 0.98, UNIT),
        hidden.expand(UNIT, *hidden.shape[1:]),
    )
    model.calls = calls
    return model.check


def started(
    spec: ModelSpec | str, display: Display = SILENT, learning: bool = False
) -> LatentModel:
    """The model of a spec, on its runtime; says how near that is to torch when it is new, and where
    it runs if that was chosen. Arguments and errors as for ``load_model``.
    """
    model = load_model(spec, learning)
    if model.spec.device != "cpu" and (isinstance(spec, str) or spec.device == AUTO):
        display.note(
            f"On {model.spec.device} in {model.spec.precision}; with `device` cpu, processors of "
            "one kind give the same bits."
        )
    if check := warm_up(model):
        display.say(f"Checked once: {check}.")
    return model


def default_clip(model: str) -> str:
    """The name of the CLIP that goes with a model by default."""
    return "stickers" if model in EMBEDDED else DEFAULT_CLIP


@cache
@quiet_loading()
def load_clip(name: str = "stickers", device: str = "cpu", offload: bool = False) -> Clip:
    """Load a CLIP model: the sticker CLIP, a folder, or a hub id.

    Args:
        offload: see ``ModelSpec``.
    """
    return Clip.load(str(STICKERS / "clip") if name in EMBEDDED else name, device, offload)


def load_scorer(folder: PathLike, device: str = "cpu") -> ImageEncoder:
    """Load a network to score pictures with: a folder of DINOv2, DINOv3, SigLIP, CLIP or ViT.

    Raises:
        ModelError: it is none of these, or damaged.
    """
    kind_of(Path(folder))  # tells of a wrong path before the libraries are loaded
    with quiet_loading():
        return Scorer.load(folder, device)


def clip_if_any(name: str, needed: bool, spec: ModelSpec, display: Display = SILENT) -> Clip | None:
    """A CLIP model, or a note that there is none where one can do without.

    Args:
        spec: of the loaded model that it is used with.

    Raises:
        ModelError: it is needed, and there is none.
    """
    try:
        return load_clip(name, spec.device, spec.offload)
    except ModelError as error:
        if needed:
            raise
        display.note(f"Note: no CLIP scores: {error}")
        return None


@cache
@quiet()
def load_judge() -> Judge:
    """The judge of the sticker world."""
    return Judge.load(STICKERS / "judge")
