"""Distilled models, which draw in a few steps or without guidance: words are learned on others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evoken.errors import ModelError, shown
from evoken.models.bases import Base
from evoken.models.contents import read_json
from evoken.models.hub import beside
from evoken.models.provenance import is_hub_id, repository
from evoken.spec import ModelSpec

SCHEDULER = "scheduler/scheduler_config.json"


def learned_on(
    base: Base, spec: ModelSpec, folder: Path, hub: str, config: Mapping[str, Any]
) -> str:
    """The hub ids of the model that words for a distilled one are learned on; "" for others.

    Args:
        folder: of the pipeline.
        hub: its hub id, where its files may have to be fetched; else "".
        config: of the pipeline, as in model_index.json.
    """
    signs, name = base.distilled, spec.name
    # A path may have an "@" in it that begins no revision.
    name = Path(repository(name)[0] if is_hub_id(name) else name).name.lower()
    if signs is None or any(mark in name for mark in signs.unless):
        return ""
    if (signs.name and signs.name in name) or (signs.entry and config.get(signs.entry)):
        return signs.base
    if signs.shift is None:
        return ""
    file = beside(folder, hub, SCHEDULER)
    own = read_json(file) if file.is_file() else {}
    return signs.base if own.get("shift") == signs.shift else ""


def check_learnable(bases: str, name: str) -> None:
    """Raise ``ModelError`` if a model is distilled: how it errs at a noise level no longer says how
    well a word explains pictures.

    Args:
        bases: what ``learned_on`` found.
        name: of the model.
    """
    if bases:
        raise ModelError(
            f"{shown(name, 200)} is distilled, and words are not learned on such models.",
            f"Learn the word on {bases}: it can be used with both.",
        )
