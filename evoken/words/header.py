"""What a word's file says of its making."""

import json
import re
from collections.abc import Mapping

from evoken.models.bases import Base
from evoken.models.provenance import public_name, without_paths
from evoken.version import __version__
from evoken.words.layouts import Embedding


def stem_of(placeholder: str) -> str:
    """A file name that every program can use as the trigger: ComfyUI cuts names at < and [."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", placeholder)[:100].strip("-.") or "word"


def published(about: Mapping[str, str]) -> dict[str, str]:
    """What a word's file may say of its making where others read it: no path."""
    named = {name: public_name(about[name]) for name in ("model", "also") if about.get(name)}
    return without_paths(about) | named


def header(embedding: Embedding, base: Base | None) -> dict[str, str]:
    """Provenance: the ModelSpec entries that sd-scripts writes for a word, and ours."""
    stem = stem_of(embedding.placeholder)
    about = published(embedding.about) | {"placeholder": embedding.placeholder}
    found = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "diffusers",
        "modelspec.implementation_version": f"evoken/{__version__}",
        "modelspec.title": stem,
        "modelspec.trigger_phrase": embedding.placeholder,
        "modelspec.usage_hint": f"In A1111 and Forge write {stem}, in ComfyUI embedding:{stem}, in "
        f"InvokeAI <{stem}>, in diffusers {embedding.placeholder}; the file's name counts.",
        "evoken": json.dumps(about, sort_keys=True),
    }
    if base is not None:
        named = about.get("architecture", "")
        exact = named if named.startswith(base.architecture) else base.architecture
        found["modelspec.architecture"] = f"{exact}/textual-inversion"
    if "model" in about:
        found["base_model"] = about["model"]
    return found
