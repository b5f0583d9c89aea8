"""A pipeline whose denoiser is in a single file: safetensors, or GGUF."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from evoken.errors import EvokenError, ModelError, reason_of, shown
from evoken.libraries import diffusers
from evoken.models.bases import UNETS, Base
from evoken.models.from_folder import Source, absent_from, class_of, dtype_of, from_folder
from evoken.models.gguf import read_gguf
from evoken.models.hub import beside
from evoken.models.memory import out_of_memory
from evoken.models.provenance import DENOISERS, repository
from evoken.models.quantized import GGUF, check_installed, check_runtime
from evoken.models.single_file import check_complete, held_and_lacking, marked, scaled_denoiser
from evoken.spec import ModelSpec

WHOLE = "Give the folder or hub id of a whole pipeline of the same kind with `config`."


def from_file(
    base: Base, file: Path, source: Source, config: dict[str, Any], spec: ModelSpec
) -> Any:
    """A pipeline from a single file; what the file lacks, from the pipeline of ``spec.config``.

    Raises:
        ModelError: the file lacks weights of the denoiser, or models that it cannot be given.
    """
    held, lacking = held_and_lacking(file, base, config)
    given = absent_from(base, config)
    if lacking:
        given = _rest(base, source, config, spec, held, lacking)
    where: dict[str, Any] = {"config": str(source.index.parent)}
    if source.hub:
        where["config"], where["revision"] = repository(source.hub)
    with TemporaryDirectory() as folder:
        # A suffix in capitals is none of safetensors for diffusers, which would ask torch.
        link = Path(folder, file.stem + ".safetensors")
        link.symlink_to(file.resolve())
        read = class_of(base).from_single_file
        own = getattr(torch, spec.precision)  # products with scales can be out of float16's range
        try:
            if state := scaled_denoiser(file, base, own):
                given[_denoiser_in(config)] = _denoiser(source, config, state, dtype=own)
            pipeline = read(str(link), dtype=dtype_of(spec), **where, **given)
        except NotImplementedError as error:  # with accelerate, weights that are nowhere are "meta"
            raise ModelError(
                f"{shown(file)} does not hold all weights of its parts: {reason_of(error)}.",
                "Check that the configuration is that of the model.",
            ) from error
    check_complete(file, pipeline)
    if (said := marked(file)) and not spec.config:
        pipeline.scheduler = pipeline.scheduler.from_config(pipeline.scheduler.config, **said)
    return pipeline


def from_gguf(
    base: Base, file: Path, source: Source, config: dict[str, Any], spec: ModelSpec
) -> Any:
    """A pipeline whose denoiser is in a GGUF file, and the rest in the pipeline of ``spec.config``.

    Raises:
        ModelError: a package is missing, the file is damaged or of another denoiser, or a part of
            the rest is not there.
        SettingError: the spec's runtime cannot run quantised weights.
    """
    check_installed(GGUF, f"{shown(file)} is a GGUF file")
    check_runtime(spec)
    state, said = read_gguf(file)
    dtype = getattr(torch, spec.precision)
    kept = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    try:
        denoiser = _denoiser(source, config, state, dtype=dtype, quantization_config=kept)
    except Exception as error:  # of what kind depends on where diffusers stumbles
        if isinstance(error, EvokenError) or out_of_memory(error):
            raise
        of = f" (the file says that it is of {shown(said)})" if said else ""
        raise ModelError(
            f"{shown(file)} is not the whole denoiser of {base.name}, the kind of `config`{of}.",
            "Check what the file is, and that `config` is of its kind.",
        ) from error
    return from_folder(base, source, config, spec, {_denoiser_in(config): denoiser})


def _denoiser_in(config: Mapping[str, Any]) -> str:
    """The denoiser's name in a pipeline's configuration."""
    return next(name for name in DENOISERS if config.get(name))


def _denoiser(
    source: Source, config: Mapping[str, Any], state: dict[str, Tensor], **how: Any
) -> Any:
    """The denoiser of a pipeline's configuration, with the weights of a single file.

    Args:
        state: the weights, by their names there.
        how: further arguments of diffusers' reader.
    """
    part = _denoiser_in(config)
    if part == "unet":
        state = {f"{UNETS}{name.removeprefix(UNETS)}": value for name, value in state.items()}
    of = beside(source.index.parent, source.hub, f"{part}/config.json").parent.parent
    kind = getattr(diffusers, config[part][1])
    return kind.from_single_file(state, config=str(of), subfolder=part, **how)


def _rest(
    base: Base,
    source: Source,
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
            pipe = from_folder(base, source, config, spec, dict.fromkeys(held))
            return {name: part for name, part in pipe.components.items() if name not in held}
        except (OSError, ModelError) as error:
            why = error.problem.rstrip(".") if isinstance(error, ModelError) else reason_of(error)
            reason, cause = f"the pipeline of `config` could not be loaded: {why}", error
    raise ModelError(
        f"{shown(spec.name, 200)} lacks {' and '.join(lacking)}, and {reason}.", WHOLE
    ) from cause
