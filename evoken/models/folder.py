"""A pipeline's folder, read before anything of it is loaded: whole, undamaged and safe.

What diffusers and transformers do with a folder that is not is seldom an error: they make up
weights and tokenizers, and where an index of weights names a file of torch, they read that.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from evoken.errors import ModelError, reason_of, shown
from evoken.models.contents import NOT_NEEDED, check_is_file, read_json
from evoken.models.entries import check_entries
from evoken.models.quantized import stored

AGAIN = "Copy or download the model again, with all of its files."
WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_)?model(?:\.(?P<variant>fp16|bf16|fp32))?(?:-\d+-of-\d+)?"
    r"(?:\.(?P<legacy>fp16|bf16|fp32))?\.safetensors"
)
# Names in configurations: of how many layers there are, each with a tensor at least, and of sides.
COUNTS = re.compile(r"layers|depth|blocks_|num_blocks|experts")
SIZES = re.compile(
    r"size|dim|channels|layers|heads|position|depth|blocks|experts|width|length|embeds|groups|"
    r"buckets|^d_"
)
ROUNDING, LEAST_SIZE = 16, 1 << 16  # a side may be a product, of heads for one, or make no tensor
# What a tokenizer can be read from, by its class: any row, with all files of the row.
VOCABULARIES = {
    "": (("tokenizer.json",), ("vocab.json", "merges.txt")),
    "T5": (("tokenizer.json",), ("spiece.model",)),
    "Gemma": (("tokenizer.json",), ("tokenizer.model",)),
}
SEEING = "ForConditionalGeneration"  # language models that also see, by their classes
SIGHT = re.compile(r"(^|\.)(visual|vision_tower)\.")  # and the names of weights that they see with


def parts_of(config: Mapping[str, Any], without: Iterable[str] = ()) -> dict[str, str]:
    """The parts that a pipeline's configuration names, with their classes."""
    return {
        name: str(value[1])
        for name, value in config.items()
        if isinstance(value, list | tuple)
        and len(value) == 2
        and value[0] is not None
        and name not in (*NOT_NEEDED, *without)
    }


def variant_of(names: Iterable[str], parts: Iterable[str]) -> str | None:
    """The variant of the weights to load, such as "fp16": the first that a part has which has no
    plain weights; None where all parts have.

    Args:
        names: of all files, as paths from the pipeline's folder.
        parts: names of the parts that will be read.
    """
    found: dict[str, set[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if (match := WEIGHTS.fullmatch(path.name)) and len(path.parts) == 2:
            kind = match["variant"] or match["legacy"] or ""
            found.setdefault(path.parts[0], set()).add(kind)
    only = [kinds for part, kinds in found.items() if part in parts and "" not in kinds]
    return next((v for v in ("fp32", "fp16", "bf16") if any(v in kinds for kinds in only)), None)


def files_of(folder: Path) -> list[str]:
    """Names of the files of a pipeline's folder and of its parts, as paths from there."""
    return [p.relative_to(folder).as_posix() for p in sorted(folder.glob("*/*")) if p.is_file()]


def check_folder(
    folder: Path, config: Mapping[str, Any], without: Iterable[str], processor: bool = False
) -> None:
    """Raise ``ModelError`` unless every part is there, undamaged as far as its files tell.

    Args:
        without: parts that are not read.
        processor: whether the tokenizer may be part of one.
    """
    parts = parts_of(config, without)
    variant = variant_of(files_of(folder), parts)
    for name, kind in parts.items():
        part, library = folder / name, str(config[name][0])
        if not part.is_dir():
            raise ModelError(f"{shown(folder)} lacks its {name}: there is no such folder.", AGAIN)
        _check_files(part)
        if name.startswith("tokenizer"):
            if "Processor" in kind and not processor:
                raise ModelError(
                    f"{shown(part)} must be a tokenizer (got {shown(kind)}, which reads pictures "
                    "as well).",
                    "Take the tokenizer from the model itself.",
                )
            _check_tokenizer(part, kind)
        elif "Scheduler" in kind:
            _need(part, "scheduler_config.json")
            check_entries(part / "scheduler_config.json", library, kind)
        else:
            _check_weights(part, variant)
            if kind.endswith(SEEING):
                _check_sight(part, variant)
            check_entries(part / "config.json", library, kind)


def check_clip_folder(folder: Path) -> None:
    """The same for the folder of a CLIP model, which holds everything side by side."""
    _check_files(folder)
    _check_tokenizer(folder, "CLIPTokenizer")
    _check_weights(folder, None)


def check_encoder_folder(folder: Path) -> None:
    """And for the folder of a network that reads no text."""
    _check_files(folder)
    _check_weights(folder, None)


def _check_weights(part: Path, variant: str | None) -> None:
    """There are some, and the configuration asks for no more: layers and tables are made before
    the weights for them are looked for.
    """
    _need(part, "config.json")
    files = weight_files(part, variant)
    if not files:
        raise ModelError(f"{shown(part)} holds no weights in safetensors.", AGAIN)
    shapes = [shape for file in files for shape in _shapes(file).values()]
    largest = max((side for shape in shapes for side in shape), default=0)
    for name, value in _sizes(read_json(part / "config.json")):
        if value > (len(shapes) if COUNTS.search(name) else largest * ROUNDING + LEAST_SIZE):
            raise ModelError(
                f"the configuration of {shown(part)} asks for {shown(name)} = {value:,}, and its "
                f"weights have {len(shapes):,} tensors with sides of up to {largest:,}.",
                AGAIN,
            )


def _check_sight(part: Path, variant: str | None) -> None:
    """Its vision tower is there. No prompt is read with it, but a huge one would be made up."""
    names = (name for file in weight_files(part, variant) for name in _shapes(file))
    if not any(SIGHT.search(name) for name in names):
        raise ModelError(f"{shown(part)} lacks the weights of its vision tower.", AGAIN)


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The numbers in a configuration that say how large or how many something is."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _sizes(value)
        elif SIZES.search(name):
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, int):
                    yield name, one


def _check_files(part: Path) -> None:
    for file in sorted(p for p in part.iterdir() if p.is_file()):
        if file.suffix in (".json", ".txt", ".model", ".safetensors"):
            check_is_file(file)
        if file.suffix == ".json":
            read_json(file)
    check_indexes(part)


def check_indexes(part: Path) -> None:
    """Raise ``ModelError`` for an index of weights that names other files than safetensors of its
    own folder, or files that are not there.
    """
    for index in sorted(part.glob("*.index*.json")):
        if ".safetensors." in index.name:
            check_index(index)
            for name in shards(index):
                if not (part / name).is_file():
                    raise ModelError(f"{shown(part)} lacks {shown(name)}.", AGAIN)


def check_index(index: Path) -> None:
    """Raise ``ModelError`` for an index that names anything but safetensors beside it."""
    for name in shards(index):
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise ModelError(
                f"{shown(index)} may only name safetensors in its own folder (got {shown(name)}).",
                "Use another copy of the model: nothing is ever unpickled.",
            )


def shards(index: Path) -> list[str]:
    """The files that an index of weights names."""
    entries = read_json(index).get("weight_map")
    if not isinstance(entries, dict) or not all(isinstance(v, str) for v in entries.values()):
        raise ModelError(f"{shown(index)} is no index of weights.", AGAIN)
    return sorted(set(entries.values()))


def _need(part: Path, *names: str) -> None:
    for name in names:
        if not (part / name).is_file():
            raise ModelError(f"{shown(part)} lacks {name}.", AGAIN)


def _check_tokenizer(part: Path, kind: str) -> None:
    """The settings too: without them, the length of a prompt and its padding are made up."""
    _need(part, "tokenizer_config.json")
    ways = VOCABULARIES[next((k for k in ("T5", "Gemma") if kind.startswith(k)), "")]
    if not any(all((part / name).is_file() for name in way) for way in ways):
        known = " or ".join(" and ".join(way) for way in ways)
        raise ModelError(f"{shown(part)} lacks its vocabulary: {known}.", AGAIN)


def weight_files(part: Path, variant: str | None) -> list[Path]:
    """The safetensors that a part is loaded from: those of the variant, where it has some."""
    kinds: dict[str, list[Path]] = {}
    for file in sorted(p for p in part.glob("*.safetensors") if p.is_file()):
        if match := WEIGHTS.fullmatch(file.name):
            kinds.setdefault(match["variant"] or match["legacy"] or "", []).append(file)
    found = kinds.get(variant or "", kinds.get("", []))
    # A whole file goes before shards beside it.
    return [p for p in found if "-of-" not in p.name] or found


def check_complete_parts(folder: Path, pipeline: Any, without: Iterable[str]) -> None:
    """Raise ``ModelError`` unless the files of every part hold as many numbers as it has weights:
    what is missing was filled up with random ones.
    """
    parts = parts_of(pipeline.config, without)
    variant = variant_of(files_of(folder), parts)
    for name in parts:
        module: Any = getattr(pipeline, name, None)
        if isinstance(module, nn.Module):
            check_holds_all(folder / name, module, variant)


def check_holds_all(part: Path, module: nn.Module, variant: str | None = None) -> None:
    """The same for one part, loaded from these files."""
    kept = (x for value in module.state_dict().values() for x in stored(value))
    # Weights that two layers share are in a file once; integers of 64 bits are positions.
    values = {x.data_ptr(): x for x in kept if x.dtype not in (torch.int64, torch.bool)}
    needed = sum(value.numel() for value in values.values())
    found = sum(_numbers(file) for file in weight_files(part, variant))
    if found < needed:
        raise ModelError(
            f"{shown(part)} does not hold all of its weights: {found:,} of {needed:,}.", AGAIN
        )


def _numbers(file: Path) -> int:
    """How many numbers of weights a file holds."""
    return sum(prod(shape) for shape in _shapes(file).values())


def _shapes(file: Path) -> dict[str, list[int]]:
    """Of the weights in a file, by name."""
    try:
        with safe_open(file, "pt") as content:
            slices = {name: content.get_slice(name) for name in list(content.keys())}
            # Integers of 64 bits are positions.
            return {n: s.get_shape() for n, s in slices.items() if s.get_dtype() != "I64"}
    except SafetensorError as error:
        raise ModelError(f"{shown(file)} is damaged: {reason_of(error)}.", AGAIN) from error
