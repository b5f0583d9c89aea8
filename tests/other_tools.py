"""How other programs read an embedding file, written anew from what they are known to do.

Only what decides is here: whether a file is taken, for which base, and with which vectors.
"""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

SD1, SD2, SDXL, SD3, FLUX, CHROMA = "SD1", "SD2", "SDXL", "SD3", "FLUX", "Chroma"


class RefusedError(Exception):
    """The program stops with an error."""


def contents(path: Path) -> Any:
    """Safetensors, or a file of torch; all of these programs load those with their own care."""
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def rows(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(0) if tensor.ndim == 1 else tensor


# A1111 and Forge: modules/safe.py looks at the members of an archive and at the names that it
# would import, before anything is loaded.

MEMBERS = re.compile(r"^([^/]+)/((data/\d+)|version|(data\.pkl))$")  # byteorder only since 1.9
IMPORTS = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    *(("torch", f"{kind}Storage") for kind in ("Float", "Half", "Int", "Long", "Double")),
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in IMPORTS:
            raise RefusedError(f"global '{module}/{name}' is forbidden")
        if name == "OrderedDict":
            return OrderedDict
        return getattr(torch._utils if module == "torch._utils" else torch, name)

    def persistent_load(self, saved_id: Any) -> Any:
        assert saved_id[0] == "storage"
        return torch.storage.TypedStorage(dtype=torch.float32, _internal=True)


def check_pt(path: Path) -> None:
    """Raise ``RefusedError`` where A1111 would print that the file is malicious."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not MEMBERS.match(name):
                    raise RefusedError(f"bad file inside {path}: {name}")
            (data,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
            stream, pickles = io.BytesIO(archive.read(data)), 1
    except zipfile.BadZipFile:
        stream, pickles = io.BytesIO(path.read_bytes()), 5  # the older serialization
    unpickler = _Restricted(stream)
    for _ in range(pickles):
        unpickler.load()


# The widths that an engine expects of a file; a word of another is skipped.
A1111_WIDTHS = {SD1: {768}, SD2: {1024}, SDXL: {2048}, SD3: {2048}}
FORGE_WIDTHS = {SD1: {768}, SD2: {1024}, SDXL: {2048}, SD3: {768, 1280}, FLUX: {768}}


def _webui(path: Path, widths: set[int]) -> dict[str, Tensor] | None:
    if path.suffix != ".safetensors":
        check_pt(path)
    data = contents(path)
    if "string_to_param" in data:
        if len(data["string_to_param"]) != 1:
            raise RefusedError("embedding file has multiple terms in it")
        found = {"": next(iter(data["string_to_param"].values()))}
    elif "clip_g" in data and "clip_l" in data:
        found = {name: data[name] for name in ("clip_l", "clip_g")}
    elif isinstance(data, dict) and all(isinstance(v, Tensor) for v in data.values()):
        if len(data) != 1:
            raise RefusedError("embedding file has multiple terms in it")
        found = {"": rows(next(iter(data.values())))}
    else:
        raise RefusedError("couldn't identify the file")
    return found if sum(v.shape[-1] for v in found.values()) in widths else None


def a1111(path: Path, base: str) -> dict[str, Tensor] | None:
    """What A1111 loads for a base, by encoder ("" for the only one); None: skipped."""
    return _webui(path, A1111_WIDTHS[base]) if base in A1111_WIDTHS else None


def forge(path: Path, base: str) -> dict[str, Tensor] | None:
    """What Forge loads."""
    return _webui(path, FORGE_WIDTHS[base])


COMFY_ENCODERS = {
    SD1: {"clip_l": 768},
    SD2: {"clip_h": 1024},
    SDXL: {"clip_l": 768, "clip_g": 1280},
    SD3: {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096},
    FLUX: {"clip_l": 768, "t5xxl": 4096},
    CHROMA: {"t5xxl": 4096},
    "FLUX.2 klein 4B": {"qwen3_4b": 2560},
    "FLUX.2 klein 9B": {"qwen3_8b": 4096},
    "FLUX.2 dev": {"mistral3_24b": 5120},
    # Their tokenizers are not told where the files of words are.
    "Z-Image": {},
    "Qwen-Image": {},
    "Lumina 2": {},
}


def comfyui(path: Path, base: str) -> dict[str, Tensor]:
    """The vectors that each of the base's encoders gets; those of a wrong width are ignored."""
    data, found = contents(path), {}
    for key, width in COMFY_ENCODERS[base].items():
        if "string_to_param" in data:
            tensor = next(iter(data["string_to_param"].values()))
        elif key in data:
            tensor = data[key]
        else:
            bundled = [
                n
                for n in data
                if n.startswith("bundle_emb.") and n.endswith((".string_to_param.*", f".{key}"))
            ]
            tensor = data[bundled[0]] if bundled else next(iter(data.values()))
        if rows(tensor).shape[-1] == width:
            found[key] = rows(tensor)
    return found


INVOKE_WIDTHS = {768: SD1, 1024: SD2, 1280: SDXL}


def invokeai(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The base that InvokeAI takes the file for, and the vectors by encoder ("" for the only).
    Those for the only one go into both encoders of SDXL, where their width is an error.
    """
    data = contents(path)
    if "string_to_token" in data:
        width = next(iter(data["string_to_param"].values())).shape[-1]
    elif "emb_params" in data:
        width = data["emb_params"].shape[-1]
    elif "clip_g" in data:
        width = data["clip_g"].shape[-1]
    else:
        width = next(iter(data.values())).shape[0]  # not the last axis
    if width not in INVOKE_WIDTHS:
        raise RefusedError(f"Unknown base for width {width}")
    if "string_to_param" in data:
        found = {"": next(iter(data["string_to_param"].values()))}
    elif "emb_params" in data:
        found = {"": data["emb_params"]}
    elif "clip_g" in data and "clip_l" in data:
        found = {name: data[name] for name in ("clip_l", "clip_g")}
    else:
        found = {"": rows(next(iter(data.values())))}
    if INVOKE_WIDTHS[width] == SDXL and "" in found:
        raise RefusedError("the current model has another token dimension")
    return INVOKE_WIDTHS[width], found
