"""What the sticker models share, which the package holds once: they are put together here."""

import copy
import shutil
from pathlib import Path
from typing import Any

import torch

from evoken.errors import ModelError, SettingError, shown
from evoken.files import new_folder, write_text
from evoken.libraries import diffusers, transformers
from evoken.models.embedded import EMBEDDED, STICKERS
from evoken.models.provenance import weights_hash
from evoken.quiet import quiet_loading


def text_encoder_of(model: transformers.CLIPModel) -> transformers.CLIPTextModel:
    """CLIP's text tower as Stable Diffusion wants it."""
    encoder = transformers.CLIPTextModel(copy.deepcopy(model.config.text_config)).to(model.dtype)
    weights = model.text_model.state_dict()
    names = encoder.state_dict()
    encoder.load_state_dict({k if k in names else f"text_model.{k}": v for k, v in weights.items()})
    return encoder.eval()


def projected_text_encoder_of(
    model: transformers.CLIPModel,
) -> transformers.CLIPTextModelWithProjection:
    """CLIP's text tower and projection as Stable Diffusion 3 wants them."""
    config = copy.deepcopy(model.config.text_config)
    encoder = transformers.CLIPTextModelWithProjection(config).to(model.dtype)
    tower, projection = model.text_model.state_dict(), model.text_projection.state_dict()
    names = encoder.state_dict()
    weights = {k if k in names else f"text_model.{k}": v for k, v in tower.items()}
    encoder.load_state_dict(weights | {f"text_projection.{k}": v for k, v in projection.items()})
    return encoder.eval()


def shared_parts(name: str, dtype: torch.dtype) -> dict[str, Any]:
    """Of an embedded model: the parts of its pipeline that its own folder lacks, by their names.

    Args:
        dtype: of the weights, which are stored in float16.
    """
    whole = transformers.CLIPModel.from_pretrained(
        STICKERS / "clip", dtype=dtype, use_safetensors=True
    )
    vae = diffusers.AutoencoderKL.from_pretrained(
        STICKERS / "vae",
        dtype=dtype,
        use_safetensors=True,
        # Else diffusers complains of its absence.
        low_cpu_mem_usage=diffusers.utils.is_accelerate_available(),
    )
    if name == "stickers":
        return {"vae": vae, "text_encoder": text_encoder_of(whole), "tokenizer": _tokenizer()}
    return {
        "vae": vae,
        "text_encoder": projected_text_encoder_of(whole),
        "text_encoder_2": projected_text_encoder_of(whole),
        "tokenizer": _tokenizer(),
        "tokenizer_2": _tokenizer(),
    }


def _tokenizer() -> transformers.CLIPTokenizer:
    return transformers.CLIPTokenizer.from_pretrained(STICKERS / "clip")


@quiet_loading()
def export_embedded(name: str, folder: str | Path) -> Path:
    """Write an embedded model as the folder that ``from_pretrained`` of diffusers loads.

    Args:
        name: ``stickers`` or ``stickers-flow``.
        folder: new or empty. If it already holds this model, it stays as it is.

    Returns:
        The folder.

    Raises:
        ModelError: there is no embedded model of this name.
        SettingError: the folder holds something else.
        RunError: the folder cannot be written.
    """
    if name not in EMBEDDED:
        raise ModelError(f"`name` must be {' or '.join(EMBEDDED)} (got {shown(name)}).")
    path = Path(folder)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        if path.is_dir() and weights_hash(str(path)) == weights_hash(name):
            return path
        raise SettingError(f"{shown(path)} holds something else.", "Choose another `folder`.")
    with new_folder(path) as partial:
        shutil.copytree(STICKERS / name, partial, dirs_exist_ok=True)
        shutil.copytree(STICKERS / "vae", partial / "vae")
        parts = shared_parts(name, torch.float16)
        for part in parts.keys() - {"vae"}:
            parts[part].save_pretrained(partial / part)
        load_in_float32(partial)
    return path


def load_in_float32(folder: Path) -> None:
    """Let transformers load the text encoders of a folder in float32 though they are stored in
    float16: diffusers loads the other parts so.
    """
    for config in (*folder.glob("text_encoder*/config.json"), *folder.glob("clip/config.json")):
        text = config.read_text(encoding="utf-8")
        write_text(config, text.replace('"float16"', '"float32"'))
