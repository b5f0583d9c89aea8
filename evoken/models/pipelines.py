"""Any model, from a pipeline's folder, a hub id, or a single-file checkpoint."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError
from diffusers.utils import is_accelerate_available
from safetensors import SafetensorError

from evoken.errors import ModelError, reason_of, shown
from evoken.models.bases import BASES, Base
from evoken.models.families.latent import LatentModel
from evoken.models.memory import out_of_memory
from evoken.models.single_file import check_complete, held_and_lacking, single_file_config
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec

WHOLE = "Give the folder or hub id of a whole pipeline of the same kind with `config`."
FAILURES = (
    MemoryError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    SafetensorError,
    SingleFileComponentError,
)


def load_pipeline(
    path: str,
    spec: ModelSpec,
    parts: Callable[[torch.dtype], dict[str, Any]] | None = None,
    **family: Any,
) -> LatentModel:
    """A model from a pipeline's folder, hub id or single file; safetensors only.

    Args:
        parts: gives the parts that the folder lacks, by their names, in a precision.
        family: further arguments of the family's class.

    Raises:
        ModelError: not found, not of a family that can be used, or only there as pickles.
        SettingError: the model cannot be used with this spec.
    """
    try:
        is_file = Path(path).is_file()
        source = single_file_config(Path(path), spec) if is_file else path
        config = DiffusionPipeline.load_config(source)
        name = config.get("_class_name")
        base = next((b for b in BASES if b.pipeline == name), None)
        if base is not None:
            if is_file:
                pipeline = _from_file(base, Path(path), source, config, spec)
            else:
                given = parts(_dtype(spec)) if parts else {}
                pipeline = _from_folder(base, path, config, _dtype(spec), given)
            return _family(base)(pipeline, spec, **family)
        reason, cause = f"its class is {shown(name)}", None
    except FAILURES as error:
        reason, cause = reason_of(error), error
        if out_of_memory(error):
            raise ModelError(
                f"there is not enough memory for {shown(spec.name)} in {spec.precision} on "
                f"{spec.device} ({reason}).",
                "Set `precision` to bfloat16 or float16, or `runtime` to torch-int8.",
            ) from error
    fix = "Check the name, and that its weights are safetensors."
    if Path(path).is_file() and not spec.config:
        fix = WHOLE
    known = " or ".join(b.name for b in BASES)
    raise ModelError(
        f"{shown(spec.name)} is not a folder, a hub id or a single file of {known}: {reason}.", fix
    ) from cause


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
    path: str,
    config: dict[str, Any],
    dtype: torch.dtype,
    given: Mapping[str, Any],
) -> Any:
    """A pipeline from its folder or hub id.

    Args:
        given: parts by their names, which are neither fetched nor read; None for those that the
            pipeline shall do without.
    """
    return _class(base).from_pretrained(
        path,
        use_safetensors=True,
        dtype=dtype,
        low_cpu_mem_usage=is_accelerate_available(),  # else diffusers complains of its absence
        **_absent(base, config) | dict(given),
    )


def _absent(base: Base, config: dict[str, Any]) -> dict[str, Any]:
    """Arguments for what a pipeline goes without: its configuration says so, but diffusers wants to
    be told again.
    """
    kind = _class(base)
    optional = (*kind._optional_components, "text_encoder_3", "tokenizer_3")
    absent: dict[str, Any] = {
        part: None
        for part in optional
        if part in kind.__init__.__annotations__ and not config.get(part, [None])[0]
    }
    if "safety_checker" in kind.__init__.__annotations__:
        absent |= {"safety_checker": None, "requires_safety_checker": False}
    return absent


def _from_file(base: Base, file: Path, source: str, config: dict[str, Any], spec: ModelSpec) -> Any:
    """A pipeline from a single file; what the file lacks, from the pipeline of ``spec.config``.

    Raises:
        ModelError: the file lacks weights of the denoiser, or models that it cannot be given.
    """
    held, lacking = held_and_lacking(file, base, config)
    given = _rest(base, config, spec, held, lacking) if lacking else _absent(base, config)
    pipeline = _class(base).from_single_file(str(file), config=source, dtype=_dtype(spec), **given)
    check_complete(file, pipeline)
    return pipeline


def _rest(
    base: Base,
    config: dict[str, Any],
    spec: ModelSpec,
    held: list[str],
    lacking: list[str],
) -> dict[str, Any]:
    """The parts of the pipeline of ``spec.config``, by name, but for the models that a file holds.

    Raises:
        ModelError: the spec names no pipeline, or a model that the file lacks is not in it.
    """
    reason, cause = "no `config` is given", None
    if spec.config:
        try:
            without = dict.fromkeys(held)
            pipe = _from_folder(base, spec.config, config, _dtype(spec), without)
            return {name: part for name, part in pipe.components.items() if name not in held}
        except OSError as error:
            reason = f"the pipeline of `config` could not be loaded: {reason_of(error)}"
            cause = error
    raise ModelError(
        f"{shown(spec.name)} lacks {' and '.join(lacking)}, and {reason}.", WHOLE
    ) from cause
