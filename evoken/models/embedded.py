"""The sticker models that are shipped in the package, and how any model is loaded by its name."""

from functools import cache
from pathlib import Path

from evoken.errors import ModelError, SettingError
from evoken.judge import Judge
from evoken.models.base import PRECISIONS, ModelSpec
from evoken.models.clip import Clip
from evoken.models.stable_diffusion import StableDiffusion, load_stable_diffusion

STICKERS = Path(__file__).parent / "weights"
DEFAULT_CLIP = "openai/clip-vit-large-patch14"  # the text encoder of Stable Diffusion 1.x

DEFAULT_SPEC = ModelSpec()


def load_model(spec: ModelSpec = DEFAULT_SPEC) -> StableDiffusion:
    """The model of a spec; by default the sticker model.

    Raises:
        ModelError: it cannot be found or is of another family.
        SettingError: the precision or the batch is not possible.
    """
    if spec.precision not in PRECISIONS:
        raise SettingError(f"a precision of {', '.join(PRECISIONS)}", repr(spec.precision),
                           "Use one of these.")  # fmt: skip
    if spec.batch < 1:
        raise SettingError("a batch of at least 1", str(spec.batch), "Use 16 or more.")
    if spec.name == "stickers":
        return load_stable_diffusion(str(STICKERS / "stickers"), spec)
    looks_like_path = spec.name.startswith((".", "/", "~")) or spec.name.count("/") != 1
    folder = Path(spec.name).expanduser()
    if looks_like_path and not folder.is_dir():
        raise ModelError("'stickers', a folder, or a hub id", f"{spec.name!r}, which is none",
                         "Check the name.")  # fmt: skip
    return load_stable_diffusion(str(folder) if folder.is_dir() else spec.name, spec)


@cache
def load_clip(name: str = "stickers") -> Clip:
    """The CLIP that goes with a model: the sticker CLIP, a folder, or a hub id."""
    return Clip.load(str(STICKERS / "clip") if name == "stickers" else name)


@cache
def load_judge() -> Judge:
    """The judge of the sticker world."""
    return Judge.load(STICKERS / "judge")
