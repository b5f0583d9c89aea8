"""Any model, from a pipeline's folder, a hub id, or a single-file checkpoint."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from evoken.errors import EvokenError, ModelError, reason_of, shown
from evoken.libraries import diffusers
from evoken.models.bases import BASES, Base
from evoken.models.card import OWN_MEMORY
from evoken.models.contents import (
    check_is_pipeline,
    check_is_text_to_image,
    check_no_code,
    check_parts,
)
from evoken.models.distilled import check_learnable, learned_on
from evoken.models.families.latent import LatentModel
from evoken.models.from_file import WHOLE, from_file, from_gguf
from evoken.models.from_folder import Source, class_of, dtype_of, from_folder
from evoken.models.gguf import is_gguf
from evoken.models.hub import INDEX, fetched, reached
from evoken.models.memory import out_of_memory
from evoken.models.quantized import in_words
from evoken.models.runtimes.requirements import chosen
from evoken.models.single_file import eight_bits, single_file_config
from evoken.models.sound import check_sound
from evoken.spec import ModelSpec


def load_pipeline(
    path: str,
    spec: ModelSpec,
    parts: Callable[[torch.dtype], dict[str, Any]] | None = None,
    learning: bool = False,
    **family: Any,
) -> LatentModel:
    """A model from a pipeline's folder, hub id or single file; safetensors only.

    Args:
        parts: gives the parts that the folder lacks, by their names, in a precision.
        learning: whether words are to be learned on it.
        family: further arguments of the family's class.

    Raises:
        ModelError: not found, not of a family that can be used, only there as pickles, or distilled
            where words are to be learned.
        SettingError: the model cannot be used with this spec.
    """
    base, cause = None, None
    try:
        is_file = Path(path).is_file()
        source = _source_of_file(Path(path), spec) if is_file else _source(path)
        config = diffusers.DiffusionPipeline.load_config(source.index.parent)
        check_no_code(spec.config if is_file else spec.name, config)
        name = config.get("_class_name")
        base = next((b for b in BASES if b.pipeline == name), None)
        if base is not None:
            check_parts(spec.config if is_file else spec.name, config, class_of(base))
            spec = chosen(spec, base.trained_in)
            turns = learned_on(base, spec, source.index.parent, source.hub, config)
            if learning:
                check_learnable(turns, spec.name)
            kept: dict[str, str] = {}
            if is_file and is_gguf(Path(path)):
                pipeline = from_gguf(base, Path(path), source, config, spec)
            elif is_file:
                pipeline = from_file(base, Path(path), source, config, spec)
                kept = eight_bits(Path(path), base, config)
            else:
                given = parts(dtype_of(spec)) if parts else {}
                pipeline = from_folder(base, source, config, spec, given)
            kept |= in_words(pipeline.components)
            check_sound(pipeline, base, spec.name)
            model = _family(base)(pipeline, spec, **family)
            model.learned_on, model.quantized = turns, kept
            return model
        check_is_text_to_image(spec.config if is_file else spec.name, name)
        reason = f"its class is {shown(name)}"
    except EvokenError:
        raise
    except Exception as error:  # of what kind depends on where the libraries stumble
        reason, cause = reason_of(error), error
        if out_of_memory(error):
            raise ModelError(
                f"there is not enough memory for {shown(spec.name, 200)} in {spec.precision} on "
                f"{spec.device} ({reason}).",
                f"Set {_smaller(spec)}.",
            ) from error
    fix = "Check that its files are whole, and that its weights are safetensors."
    if Path(path).is_file() and not spec.config:
        fix = WHOLE
    if base is not None:
        raise ModelError(f"could not load {shown(spec.name, 200)}: {reason}.", fix) from cause
    known = ", ".join(b.name for b in BASES)
    raise ModelError(
        f"{shown(spec.name, 200)} is not a folder, a hub id or a single file of one of {known}: "
        f"{reason}.",
        fix,
    ) from cause


def _smaller(spec: ModelSpec) -> str:
    """What to set for a model to need less memory."""
    if spec.offload or torch.device(spec.device).type in OWN_MEMORY:
        return "`precision` to bfloat16 or float16, or `runtime` to torch-int8"
    return "`offload`, or use a quantised copy"  # int8 weights arrive on a card in float16


def _source(path: str) -> Source:
    """Of a pipeline's folder or hub id. What an earlier run kept of the hub is used where the hub
    cannot be reached.
    """
    if Path(path).is_dir():
        check_is_pipeline(Path(path))
        return Source(Path(path, INDEX))
    kept = reached(path)
    return Source(kept) if kept else Source(fetched(path), path)


def _source_of_file(file: Path, spec: ModelSpec) -> Source:
    """Of the pipeline that a single file is read with."""
    config = single_file_config(file, spec)
    try:
        return _source(config)
    except ModelError as error:
        if spec.config:
            raise
        raise ModelError(
            f"the configuration of {shown(file)} is not there: {error.problem.rstrip('.')}.", WHOLE
        ) from error


def _family(base: Base) -> Callable[..., LatentModel]:
    """Our class for models of this kind."""
    module, name = base.family
    found: Callable[..., LatentModel] = getattr(
        import_module(f"evoken.models.families.{module}"), name
    )
    return found
