"""evoken: teach a frozen text-to-image model a new word with forward passes only.

The names below are loaded when they are first used, so that ``import evoken`` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evoken.errors import EvokenError as EvokenError
    from evoken.flowopt.edit import edit as edit
    from evoken.flowopt.edit import invert as invert
    from evoken.flowopt.settings import FlowSettings as FlowSettings
    from evoken.flowopt.settings import flow_preset as flow_preset
    from evoken.images import load_images as load_images
    from evoken.metrics import evaluate as evaluate
    from evoken.metrics import pictures_of as pictures_of
    from evoken.models.base import ModelSpec as ModelSpec
    from evoken.models.embedded import load_clip as load_clip
    from evoken.models.embedded import load_model as load_model
    from evoken.textual_inversion.embedding import Word as Word
    from evoken.textual_inversion.embedding import load_word as load_word
    from evoken.textual_inversion.embedding import save_word as save_word
    from evoken.textual_inversion.learn import learn as learn
    from evoken.textual_inversion.settings import LearnSettings as LearnSettings
    from evoken.textual_inversion.settings import preset as preset

__version__ = "0.1.0"

_HOMES = {
    "EvokenError": "evoken.errors",
    "FlowSettings": "evoken.flowopt.settings",
    "LearnSettings": "evoken.textual_inversion.settings",
    "ModelSpec": "evoken.models.base",
    "Word": "evoken.textual_inversion.embedding",
    "edit": "evoken.flowopt.edit",
    "evaluate": "evoken.metrics",
    "flow_preset": "evoken.flowopt.settings",
    "invert": "evoken.flowopt.edit",
    "learn": "evoken.textual_inversion.learn",
    "load_clip": "evoken.models.embedded",
    "load_images": "evoken.images",
    "load_model": "evoken.models.embedded",
    "load_word": "evoken.textual_inversion.embedding",
    "pictures_of": "evoken.metrics",
    "preset": "evoken.textual_inversion.settings",
    "save_word": "evoken.textual_inversion.embedding",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evoken' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
