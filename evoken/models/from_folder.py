"""A pipeline from its folder, or from the hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from evoken.libraries import diffusers, transformers
from evoken.models.bases import Base
from evoken.models.contents import NOT_NEEDED, OPTIONAL, check_is_file, read_json
from evoken.models.folder import (
    check_complete_parts,
    check_folder,
    files_of,
    parts_of,
    variant_of,
)
from evoken.models.hub import asked, beside, files_on_hub
from evoken.models.provenance import DENOISERS, repository
from evoken.models.quantized import check_can_read
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec

MODELS = (*DENOISERS, "text_encoder", "vae")  # what the names of parts with weights begin with


@dataclass(frozen=True)
class Source:
    """Where a pipeline is.

    Attributes:
        index: its model_index.json on this machine.
        hub: its hub id, with the revision, where its other files may have to be fetched; else "".
    """

    index: Path
    hub: str = ""


def class_of(base: Base) -> Any:
    """The pipeline's class in diffusers."""
    return getattr(diffusers, base.pipeline)


def dtype_of(spec: ModelSpec) -> torch.dtype:
    """What weights are loaded in. Those that end in int8 or in half precision need not be finer
    than float16, which most models are published in, and take half the memory until then.
    """
    whole = spec.precision == "float32" and not RUNTIMES[spec.runtime].int8
    return torch.float32 if whole else torch.float16


def from_folder(
    base: Base,
    source: Source,
    config: dict[str, Any],
    spec: ModelSpec,
    given: Mapping[str, Any],
) -> Any:
    """A pipeline from its folder, or from the hub.

    Args:
        given: parts by their names, which are neither fetched nor read; None for those that the
            pipeline shall do without.

    Raises:
        ModelError: a part is not there, damaged, has no weights in safetensors, or is quantised in
            a way that cannot be read.
        SettingError: a part is quantised, and the spec's runtime cannot run it, or it cannot be
            offloaded.
    """
    without = absent_from(base, config) | dict(given)
    parts = parts_of(config, without)
    folder = source.index.parent
    dtype: dict[str, torch.dtype] = {"default": dtype_of(spec)}
    where = source.hub or str(folder)
    for part in (p for p in parts if p.startswith(MODELS)):
        file = beside(folder, source.hub, f"{part}/config.json")
        if file.is_file():
            check_is_file(file)
            if check_can_read(part, read_json(file), where, spec):
                dtype[part] = getattr(torch, spec.precision)
    if source.hub:
        repo, revision = repository(source.hub)
        wanted = {"variant": variant_of(files_on_hub(source.hub), parts), "revision": revision}
        download = partial(class_of(base).download, repo, use_safetensors=True, **wanted)
        folder = Path(asked(source.hub, partial(download, **without)))
    check_folder(folder, config, without, base.processor)
    if base.processor:  # which needs a library for pictures
        without |= {"tokenizer": None}
    pipeline = class_of(base).from_pretrained(
        str(folder),
        use_safetensors=True,
        variant=variant_of(files_of(folder), parts),
        dtype=dtype,
        # Else diffusers complains of its absence.
        low_cpu_mem_usage=diffusers.utils.is_accelerate_available(),
        **without,
    )
    if base.processor:
        words = transformers.AutoTokenizer.from_pretrained(
            folder / "tokenizer", trust_remote_code=False
        )
        pipeline.register_modules(tokenizer=words)
    check_complete_parts(folder, pipeline, without)
    return pipeline


def absent_from(base: Base, config: dict[str, Any]) -> dict[str, Any]:
    """Arguments for what a pipeline goes without: what is not needed, and what its configuration
    says is not there, which diffusers wants to be told again.
    """
    kind = class_of(base)
    optional = (*kind._optional_components, *OPTIONAL)
    absent: dict[str, Any] = {
        part: None
        for part in optional
        if part in kind.__init__.__annotations__
        and (part in NOT_NEEDED or not config.get(part, [None])[0])
    }
    if "safety_checker" in kind.__init__.__annotations__:
        absent |= {"safety_checker": None, "requires_safety_checker": False}
    return absent
