"""Whether a command that succeeded gave what its input says, found out without evoken's readers."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.campaign.kills import records_of
from benchmarks.campaign.process import call

Arrays = list[NDArray[np.float32]]
KINDS = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
ALIKE = 24  # levels of 255 between the means of two pictures that show the same
LARGE = 20  # entries of a table, such as a vocabulary, rather than of settings


def ask(question: Callable[..., str], here: Path, about: tuple[str, ...]) -> str:
    """The answer to one of the questions below about the results in a folder."""
    return str(call(_answer, question.__name__, str(here), about))


def _answer(question: str, here: str, about: tuple[str, ...]) -> str:
    os.chdir(here)
    try:
        return str(globals()[question](*about))
    except Exception as error:  # what was made is not there, or not what it should be
        return f"it cannot be looked at: {type(error).__name__}: {error}"


def nothing() -> str:
    """There is nothing to compare with."""
    return ""


def pictures(file: str, run: str) -> str:
    """Whether the picture that a run has kept is the one in a file."""
    from PIL import Image, ImageOps

    if not Path(file).is_file():
        nowhere = Path(file).is_symlink() and not Path(file).exists()
        return "a link that leads nowhere was passed over" if nowhere else ""
    kept = sorted(Path(run, "inputs").glob("??.png"))
    names = sorted(p.name for p in Path(file).parent.iterdir())
    made = kept[names.index(Path(file).name) if len(kept) > 1 else 0]
    shown = np.asarray(Image.open(made), dtype=np.float32)
    try:
        with Image.open(file) as picture:
            picture.load()
            simple = picture.mode in ("RGB", "L") and not picture.info.get("transparency")
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        return f"Pillow cannot read it: {error}"
    side = min(upright.size)
    left, top = ((n - side) // 2 for n in upright.size)
    square = upright.crop((left, top, left + side, top + side))
    other = np.asarray(square.resize((4, 4), Image.Resampling.BOX), dtype=np.float32)
    small = Image.open(made).resize((4, 4), Image.Resampling.BOX)
    apart = float(np.abs(np.asarray(small, dtype=np.float32) - other).mean())
    if simple and side >= 16 and apart > ALIKE:
        return f"the picture that was kept differs by {apart:.0f} levels"
    if simple and other.std() > 8 and shown.std() < 1:
        return "the picture that was kept is of one colour"
    return ""


def word(file: str, folder: str) -> str:
    """Whether the vectors in a converted file are those in the file that it was made of."""
    try:
        there = _arrays(Path(file).read_bytes())
    except Exception as error:
        return f"it cannot be decoded: {type(error).__name__}: {error}"
    made = [a for p in Path(folder).iterdir() if p.is_file() for a in _arrays(p.read_bytes())]
    if not made:
        return "nothing was made"
    for array in made:
        if not np.isfinite(array).all():
            return "vectors that are no numbers"
        if not any(np.array_equal(array.ravel(), other.ravel()) for other in there):
            return "vectors that are not in the file"
    return ""


def _arrays(content: bytes) -> Arrays:
    """The tensors in a file of a word."""
    if content[8:9] == b"{":
        return _of_safetensors(content)
    if content.startswith(b"\x89PNG"):
        return _of_picture(content)
    import torch

    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if wrong := archive.testzip():
                raise ValueError(f"{wrong} has another checksum")
    return _floats(torch.load(io.BytesIO(content), weights_only=True))


def _of_safetensors(content: bytes) -> Arrays:
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    found = []
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in KINDS:
            continue
        start, end = entry["data_offsets"]
        values = np.frombuffer(data[start:end], KINDS[entry["dtype"]])
        found.append(values.astype(np.float32).reshape(entry["shape"]))
    return found


def _of_picture(content: bytes) -> Arrays:
    import base64

    from PIL import Image

    picture = Image.open(io.BytesIO(content))
    if "sd-ti-embedding" not in picture.info:  # it may come after the pixels
        picture.load()
    text = picture.info["sd-ti-embedding"]
    entries = json.loads(base64.b64decode(text))["string_to_param"]
    return [np.array(e["TORCHTENSOR"], dtype=np.float32) for e in entries.values()]


def _floats(value: Any) -> Arrays:
    if isinstance(value, dict):
        return [a for v in value.values() for a in _floats(v)]
    if hasattr(value, "is_floating_point"):
        return [value.detach().float().numpy()] if value.is_floating_point() else []
    return []


def options(file: str, run: str) -> str:
    """Whether a run has the options that a file says."""
    import yaml

    given = yaml.safe_load(Path(file).read_text()) or {}
    config = json.loads(Path(run, "config.json").read_text())
    has = config["model"] | config["settings"]
    for name, value in given.items():
        found = has.get(str(name).replace("-", "_"), value)
        if value is not None and str(found) != str(value) and found != value:
            return f"{name} is {found!r}, not {value!r:.60}"
    return ""


def edits(file: str, run: str) -> str:
    """Whether a run has the prompts that a file says."""
    import yaml

    entries = yaml.safe_load(Path(file).read_text())
    entries = entries if isinstance(entries, list) else [entries]
    wanted = [
        (e["source_prompt"], t)
        for e in entries
        for t in (
            [e["target_prompts"]] if isinstance(e["target_prompts"], str) else e["target_prompts"]
        )
    ]
    config = json.loads(Path(run, "config.json").read_text())
    found = list(zip(config["sources"], config["targets"], strict=True))
    return "" if found == wanted else f"prompts {found!r:.200}"


def run(whole: str, folder: str) -> str:
    """Whether going on gave what the whole run did."""
    name = "learned_embeds.safetensors"
    name = name if Path(whole, name).exists() else "noise.safetensors"
    if Path(folder, name).read_bytes() != Path(whole, name).read_bytes():
        return f"another {name}"
    same = records_of(Path(folder)) == records_of(Path(whole))
    return "" if same else "other records"


def drawn(given: str, name: str) -> str:
    """Whether a damaged model draws what the whole one does. Of weights nobody can tell, nor of a
    configuration that could be another model's.
    """
    from PIL import Image

    [sheet] = Path("pictures").glob("*-00.png")
    if np.asarray(Image.open(sheet)).std() == 0:
        return "a picture of one colour"
    [other] = Path(given, "drawn", "here", "pictures").glob("*-00.png")
    if np.array_equal(np.asarray(Image.open(sheet)), np.asarray(Image.open(other))):
        return ""
    return _of_config(Path("model", name), Path(given, "model", name), "another picture")


def started(given: str, name: str) -> str:
    """Whether a damaged CLIP gives the word that the whole one does, under the same conditions."""
    found = Path("run", "learned_embeds.safetensors").read_bytes()
    other = Path(given, "started", "here", "run", "learned_embeds.safetensors").read_bytes()
    if found == other:
        return ""
    return _of_config(Path("clip", name), Path(given, "clip", name), "another word")


def _of_config(file: Path, whole: Path, said: str) -> str:
    """Nothing, where a file could be that of another model: weights, and a configuration with
    entries of the same kinds, of which earlier versions had fewer.
    """
    if file.suffix == ".safetensors":
        return ""
    try:
        found, other = (_shape(json.loads(f.read_text())) for f in (file, whole))
    except (OSError, ValueError):
        return said
    return "" if _fits(found, other) else said


def _fits(found: Any, whole: Any) -> bool:
    """Whether shapes are the same but for entries that one of them has not."""
    if isinstance(found, dict) and isinstance(whole, dict):
        return all(_fits(found[key], whole[key]) for key in found.keys() & whole.keys())
    return bool(found == whole)


def _shape(value: Any) -> Any:
    if isinstance(value, dict) and len(value) <= LARGE * 3:
        return {key: _shape(v) for key, v in value.items()}
    if isinstance(value, dict | list) and len(value) > LARGE:
        values = list(value.values()) if isinstance(value, dict) else value
        return len(value), sorted({type(v).__name__ for v in values})
    if isinstance(value, list):
        return [_shape(v) for v in value]
    return type(value).__name__
