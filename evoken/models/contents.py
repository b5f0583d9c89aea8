"""What a file or a folder is that came as a model and is none, and what to give instead."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from evoken.documents import parse_json
from evoken.errors import ModelError, reason_of, shown
from evoken.models.autoencoders import KINDS, PLAIN
from evoken.models.gguf import is_gguf
from evoken.models.provenance import DENOISERS

POINTER = b"version https://git-lfs"
SAFETENSORS = "Give the model as safetensors: a folder or hub id for diffusers, or one file."
# What the names of a LoRA's weights hold, in the layouts of peft, kohya, LyCORIS and diffusers.
LORA = (
    ".lora_",
    ".lora.",
    "lora_up.",
    "lora_down.",
    "lora_unet_",
    "lora_te",
    "hada_w",
    "lokr_w",
    "oft_",
)
WORD_MARK = b"string_to_param"  # in every embedding file of A1111
TENSORS_OF_A_WORD = 4
ROWS_OF_A_WORD = 128
LIBRARIES = ("diffusers", "transformers")
# Parts that no family reads, and pipelines do without.
NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")
OPTIONAL = ("text_encoder_3", "tokenizer_3")  # T5 of Stable Diffusion 3
MOST_JSON = 1 << 26  # bytes; the largest vocabularies have half of that


def check_is_file(file: Path) -> None:
    """Raise ``ModelError`` for a file that only takes the place of what its name says."""
    with file.open("rb") as content:
        start = content.read(512)
    if start.startswith(POINTER):
        raise ModelError(
            f"{shown(file)} is a git-lfs pointer, not the file.", "Fetch it with: git lfs pull"
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<head")):
        raise ModelError(
            f"{shown(file)} is a web page, not the file.",
            "Download the file itself: on its page, not the page.",
        )
    if not start:
        raise ModelError(f"{shown(file)} is empty.", "Copy or download it again.")


def check_is_model(file: Path) -> None:
    """Raise ``ModelError`` for a file that is something else than a model in safetensors, and say
    what it is where that can be told without running code from it.
    """
    check_is_file(file)
    with file.open("rb") as content:
        start = content.read(1 << 16)
    if is_gguf(file):
        return
    if file.suffix.lower() != ".safetensors":
        if WORD_MARK in start:
            raise _word(file)
        raise ModelError(
            f"a single file must be .safetensors or .gguf (got {shown(file)}).",
            "Convert it to safetensors: nothing is ever unpickled.",
        )
    shapes = _shapes(file)
    if any(mark in name for name in shapes for mark in LORA):
        raise ModelError(
            f"{shown(file)} is a LoRA, not a model, and LoRAs cannot be used.",
            "Give the model that it was made for, or one that it was merged into.",
        )
    rows = [shape[0] if len(shape) == 2 else 1 for shape in shapes.values()]
    narrow = all(len(shape) in (1, 2) for shape in shapes.values())
    if narrow and 0 < len(rows) <= TENSORS_OF_A_WORD and max(rows) <= ROWS_OF_A_WORD:
        raise _word(file)


def _word(file: Path) -> ModelError:
    return ModelError(
        f"{shown(file)} is a learned word (textual inversion), not a model.",
        "Give it with `word`, and with `name` the model that it was learned on.",
    )


def _shapes(file: Path) -> dict[str, list[int]]:
    """Shapes by name; none of a file that cannot be read, of which the reader will say why."""
    try:
        with safe_open(file, "pt") as content:
            return {n: content.get_slice(n).get_shape() for n in list(content.keys())}
    except (OSError, SafetensorError):
        return {}


def check_is_pipeline(folder: Path) -> None:
    """Raise ``ModelError`` for a folder that is no pipeline of diffusers, and say what it is."""
    index = folder / "model_index.json"
    if index.is_file():
        check_is_file(index)
        read_json(index)
        return
    found = (p for p in folder.iterdir() if p.is_file())
    files = sorted(p for p in found if p.suffix.lower() in (".safetensors", ".gguf"))
    for file in files:
        check_is_model(file)
    fix = "Give the folder that holds model_index.json, with the folders of all parts beside it."
    if len(files) == 1 and not (folder / "config.json").exists():
        fix = f"Give the file itself: {shown(files[0])}"
    inner = next((p for p in sorted(folder.glob("*/model_index.json"))), None)
    if inner:
        fix = f"Give the folder inside it: {shown(inner.parent)}"
    raise ModelError(f"{shown(folder)} is no pipeline: it has no model_index.json.", fix)


def check_is_text_to_image(name: str, kind: object) -> None:
    """Raise ``ModelError`` for a pipeline that is made for another task, by its class's name."""
    tasks = {
        "Img2Img": "for image to image",
        "Inpaint": "for inpainting",
        "ControlNet": "with a ControlNet",
        "InstructPix2Pix": "for instructions",
        "Upscale": "for upscaling",
        "Video": "for videos",
        "Fill": "for inpainting",
        "Edit": "for edits by instructions",
        "Kontext": "for edits by instructions",
        "KleinKV": "for edits by instructions",
        "Layered": "for pictures in layers",
    }
    task = next((text for mark, text in tasks.items() if mark in str(kind)), None)
    if task:
        raise ModelError(
            f"{shown(name, 200)} is a pipeline {task} ({shown(kind)}), not one for text to image.",
            "Give the text to image model that it was made from.",
        )


def check_parts(name: str, config: Mapping[str, Any], pipeline: Any) -> None:
    """Raise ``ModelError`` for a pipeline that lacks a part, or has a denoiser or an autoencoder
    that is not of its own class.

    Args:
        name: of the model, for messages.
        config: of the pipeline, as in model_index.json.
        pipeline: its class in diffusers.
    """
    for part, parameter in inspect.signature(pipeline).parameters.items():
        value, wanted = config.get(part), getattr(parameter.annotation, "__name__", "")
        if part in NOT_NEEDED or (part in OPTIONAL and value in (None, [None, None])):
            continue
        named = value if isinstance(value, list | tuple) and len(value) == 2 else ()
        if not named or not all(isinstance(text, str) for text in named):
            if parameter.default is parameter.empty:
                raise ModelError(
                    f"model_index.json of {shown(name, 200)} must give the library and the class "
                    f"of its {part} (got {shown(value)}).",
                    "Use another copy of the model.",
                )
            continue
        found = named[-1]
        replaces = wanted == PLAIN and found in KINDS  # as most autoencoders may one another
        if wanted not in ("", found) and (part in DENOISERS or (wanted in KINDS and not replaces)):
            raise ModelError(
                f"the {part} of {shown(name, 200)} must be of the class {wanted} (got "
                f"{shown(found)}).",
                "Use another copy of the model.",
            )


def check_no_code(name: str, config: Mapping[str, Any]) -> None:
    """Raise ``ModelError`` for a pipeline with a part, or a class, that is code of its own: code
    from a file is never run.

    Args:
        name: of the model, for messages.
        config: of the pipeline, as in model_index.json.
    """
    for part, value in {"pipeline": config.get("_class_name"), **config}.items():
        named = isinstance(value, list | tuple) and len(value) == 2 and part not in NOT_NEEDED
        if named and isinstance(value[0], str) and value[0] not in LIBRARIES:
            raise ModelError(
                f"{shown(part)} of {shown(name, 200)} is code of its own ({shown(value[1])} in "
                f"{shown(value[0])}), and code from a file is never run.",
                "Use a model whose parts are all of diffusers or transformers.",
            )


def read_json(file: Path) -> dict[str, object]:
    """The object in a JSON file; raises ``ModelError`` where there is none."""
    if (size := file.stat().st_size) > MOST_JSON:
        raise ModelError(
            f"{shown(file)} has {size:,} bytes, more than a model's.",
            "Copy or download it again.",
        )
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except ValueError as error:  # also of the encoding
        raise ModelError(
            f"{shown(file)} is not JSON ({reason_of(error)}).", "Copy or download it again."
        ) from error
    if not isinstance(found, dict):
        raise ModelError(f"{shown(file)} is no object of JSON.", "Copy or download it again.")
    return found
