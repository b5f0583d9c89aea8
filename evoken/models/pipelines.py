"""Any model, from a pipeline's folder, a hub id, or a single-file checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import is_accelerate_available
from transformers import AutoTokenizer

from evoken.errors import EvokenError, ModelError, reason_of, shown
from evoken.models.bases import BASES, Base
from evoken.models.batches import WAYS
from evoken.models.card import OWN_MEMORY
from evoken.models.contents import (
    NOT_NEEDED,
    check_is_pipeline,
    check_is_text_to_image,
    check_no_code,
    check_parts,
)
from evoken.models.distilled import check_learnable, learned_on
from evoken.models.families.latent import LatentModel
from evoken.models.folder import (
    check_complete_parts,
    check_folder,
    files_of,
    parts_of,
    variant_of,
)
from evoken.models.hub import INDEX, asked, fetched, files_on_hub, reached
from evoken.models.memory import out_of_memory
from evoken.models.provenance import repository
from evoken.models.runtimes.requirements import chosen
from evoken.models.single_file import check_complete, held_and_lacking, single_file_config
from evoken.models.sound import check_sound
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec

WHOLE = "Give the folder or hub id of a whole pipeline of the same kind with `config`."


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
        config = DiffusionPipeline.load_config(source.index.parent)
        check_no_code(spec.config if is_file else spec.name, config)
        name = config.get("_class_name")
        base = next((b for b in BASES if b.pipeline == name), None)
        if base is not None:
            check_parts(spec.config if is_file else spec.name, config, _class(base))
            spec = chosen(spec, base.trained_in)
            turns = learned_on(base, spec, source.index.parent, source.hub, config)
            if learning:
                check_learnable(turns, spec.name)
            if is_file:
                pipeline = _from_file(base, Path(path), source, config, spec)
            else:
                given = parts(_dtype(spec)) if parts else {}
                pipeline = _from_folder(base, source, config, _dtype(spec), given)
            check_sound(pipeline, base, spec.name)
            model = _family(base)(pipeline, spec, **family)
            model.learned_on = turns
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
    return WAYS


@dataclass(frozen=True)
class _Source:
    """Where a pipeline is.

    Attributes:
        index: its model_index.json on this machine.
        hub: its hub id, with the revision, where its other files may have to be fetched; else "".
    """

    index: Path
    hub: str = ""


def _source(path: str) -> _Source:
    """Of a pipeline's folder or hub id. What an earlier run kept of the hub is used where the hub
    cannot be reached.
    """
    if Path(path).is_dir():
        check_is_pipeline(Path(path))
        return _Source(Path(path, INDEX))
    kept = reached(path)
    return _Source(kept) if kept else _Source(fetched(path), path)


def _source_of_file(file: Path, spec: ModelSpec) -> _Source:
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


def _class(base: Base) -> Any:
    """The pipeline's class in diffusers."""
    return getattr(diffusers, base.pipeline)


def _family(base: Base) -> Callable[..., LatentModel]:
    """Our class for models of this kind."""
    module, name = base.family
    found: Callable[..., LatentModel] = getattr(
        import_module(f"evoken.models.families.{module}"), name
    )
    return found


def _dtype(spec: ModelSpec) -> torch.dtype:
    """What weights are loaded in. Those that end in int8 or in half precision need not be finer
    than float16, which most models are published in, and take half the memory until then.
    """
    whole = spec.precision == "float32" and not RUNTIMES[spec.runtime].int8
    return torch.float32 if whole else torch.float16


def _from_folder(
    base: Base,
    source: _Source,
    config: dict[str, Any],
    dtype: torch.dtype,
    given: Mapping[str, Any],
) -> Any:
    """A pipeline from its folder, or from the hub.

    Args:
        given: parts by their names, which are neither fetched nor read; None for those that the
            pipeline shall do without.

    Raises:
        ModelError: a part is not there, damaged, or has no weights in safetensors.
    """
    without = _absent(base, config) | dict(given)
    parts = parts_of(config, without)
    folder = source.index.parent
    if source.hub:
        repo, revision = repository(source.hub)
        wanted = {"variant": variant_of(files_on_hub(source.hub), parts), "revision": revision}
        download = partial(_class(base).download, repo, use_safetensors=True, **wanted)
        folder = Path(asked(source.hub, partial(download, **without)))
    check_folder(folder, config, without, base.processor)
    if base.processor:  # which needs a library for pictures
        without |= {"tokenizer": None}
    pipeline = _class(base).from_pretrained(
        str(folder),
        use_safetensors=True,
        variant=variant_of(files_of(folder), parts),
        dtype=dtype,
        low_cpu_mem_usage=is_accelerate_available(),  # else diffusers complains of its absence
        **without,
    )
    if base.processor:
        words = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False)
        pipeline.register_modules(tokenizer=words)
    check_complete_parts(folder, pipeline, without)
    return pipeline


def _absent(base: Base, config: dict[str, Any]) -> dict[str, Any]:
    """Arguments for what a pipeline goes without: what is not needed, and what its configuration
    says is not there, which diffusers wants to be told again.
    """
    kind = _class(base)
    optional = (*kind._optional_components, "text_encoder_3", "tokenizer_3")
    absent: dict[str, Any] = {
        part: None
        for part in optional
        if part in kind.__init__.__annotations__
        and (part in NOT_NEEDED or not config.get(part, [None])[0])
    }
    if "safety_checker" in kind.__init__.__annotations__:
        absent |= {"safety_checker": None, "requires_safety_checker": False}
    return absent


def _from_file(
    base: Base, file: Path, source: _Source, config: dict[str, Any], spec: ModelSpec
) -> Any:
    """A pipeline from a single file; what the file lacks, from the pipeline of ``spec.config``.

    Raises:
        ModelError: the file lacks weights of the denoiser, or models that it cannot be given.
    """
    held, lacking = held_and_lacking(file, base, config)
    given = _absent(base, config)
    if lacking:
        given = _rest(base, source, config, spec, held, lacking)
    where: dict[str, Any] = {"config": str(source.index.parent)}
    if source.hub:
        where["config"], where["revision"] = repository(source.hub)
    with TemporaryDirectory() as folder:
        # A suffix in capitals is none of safetensors for diffusers, which would ask torch.
        link = Path(folder, file.stem + ".safetensors")
        link.symlink_to(file.resolve())
        read = _class(base).from_single_file
        pipeline = read(str(link), dtype=_dtype(spec), **where, **given)
    check_complete(file, pipeline)
    return pipeline


def _rest(
    base: Base,
    source: _Source,
    config: dict[str, Any],
    spec: ModelSpec,
    held: list[str],
    lacking: list[str],
) -> dict[str, Any]:
    """The parts of the pipeline of ``spec.config``, by name, but for the models that a file holds.

    Raises:
        ModelError: the spec names no pipeline, or a model that the file lacks is not in it.
    """
    reason, cause = "no `config` is given", None  # type: str, Exception | None
    if spec.config:
        try:
            pipe = _from_folder(base, source, config, _dtype(spec), dict.fromkeys(held))
            return {name: part for name, part in pipe.components.items() if name not in held}
        except (OSError, ModelError) as error:
            why = error.problem.rstrip(".") if isinstance(error, ModelError) else reason_of(error)
            reason, cause = f"the pipeline of `config` could not be loaded: {why}", error
    raise ModelError(
        f"{shown(spec.name, 200)} lacks {' and '.join(lacking)}, and {reason}.", WHOLE
    ) from cause
