"""evoken: teach a frozen text-to-image model a new word with forward passes only.

Each name below is loaded when it is first used, so ``import evoken`` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evoken.telemetry import report_nothing
from evoken.version import __version__ as __version__

report_nothing()  # before any library beneath is imported

if TYPE_CHECKING:
    from evoken.errors import EvokenError as EvokenError
    from evoken.flowopt.edit import edit as edit
    from evoken.flowopt.edit import invert as invert
    from evoken.flowopt.folder import FlowOptRun as FlowOptRun
    from evoken.flowopt.job import edit_into as edit_into
    from evoken.flowopt.job import invert_into as invert_into
    from evoken.flowopt.settings import FlowOptSettings as FlowOptSettings
    from evoken.flowopt.settings import flowopt_preset as flowopt_preset
    from evoken.images import load_images as load_images
    from evoken.models.load import load_clip as load_clip
    from evoken.models.load import load_model as load_model
    from evoken.models.load import load_scorer as load_scorer
    from evoken.models.shared import export_embedded as export_embedded
    from evoken.pictures.drawing import draw as draw
    from evoken.pictures.scoring import evaluate as evaluate
    from evoken.resuming import resume as resume
    from evoken.spec import ModelSpec as ModelSpec
    from evoken.textual_inversion.folder import LearnRun as LearnRun
    from evoken.textual_inversion.job import learn_into as learn_into
    from evoken.textual_inversion.learn import learn as learn
    from evoken.textual_inversion.queue import learn_all as learn_all
    from evoken.textual_inversion.settings import LearnSettings as LearnSettings
    from evoken.textual_inversion.settings import preset as preset
    from evoken.words.merge import merge as merge
    from evoken.words.word import Word as Word
    from evoken.words.word import load_word as load_word
    from evoken.words.word import save_word as save_word

_HOMES = {
    "EvokenError": "evoken.errors",
    "FlowOptRun": "evoken.flowopt.folder",
    "FlowOptSettings": "evoken.flowopt.settings",
    "LearnRun": "evoken.textual_inversion.folder",
    "LearnSettings": "evoken.textual_inversion.settings",
    "ModelSpec": "evoken.spec",
    "Word": "evoken.words.word",
    "draw": "evoken.pictures.drawing",
    "edit": "evoken.flowopt.edit",
    "edit_into": "evoken.flowopt.job",
    "evaluate": "evoken.pictures.scoring",
    "export_embedded": "evoken.models.shared",
    "flowopt_preset": "evoken.flowopt.settings",
    "invert": "evoken.flowopt.edit",
    "invert_into": "evoken.flowopt.job",
    "learn": "evoken.textual_inversion.learn",
    "learn_all": "evoken.textual_inversion.queue",
    "learn_into": "evoken.textual_inversion.job",
    "load_clip": "evoken.models.load",
    "load_images": "evoken.images",
    "load_model": "evoken.models.load",
    "load_scorer": "evoken.models.load",
    "load_word": "evoken.words.word",
    "merge": "evoken.words.merge",
    "preset": "evoken.textual_inversion.settings",
    "resume": "evoken.resuming",
    "save_word": "evoken.words.word",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evoken' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
