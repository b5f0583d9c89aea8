"""Stable Diffusion 1.x, 2.x and XL as one file, with the names of weights of the first releases."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
VAE = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "conv_norm_out": "norm_out",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "conv_shortcut": "nin_shortcut",
    ".resnets.": ".block.",
    "down_blocks": "down",
}

OPENCLIP = {
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "final_layer_norm": "ln_final",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "text_projection.weight": "text_projection",
}


def renamed(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


def unet_name(name: str, layers: int) -> str:
    """Blocks are counted through: one for every layer, and on the way down one for a sampling."""
    if "resnets" in name:
        name = renamed(name, RESNET)
    found = re.fullmatch(
        r"(down|up)_blocks\.(\d)\.(resnets|attentions|\w+samplers)\.(\d)(.*)", name
    )
    if found is None:
        return renamed(name, UNET)
    way, block, kind, layer, rest = found.groups()
    number = int(block) * (layers + 1) + int(layer)
    part = int(kind != "resnets")
    if kind == "upsamplers":  # of a block without attention, beside its last layer
        return f"output_blocks.{number + layers}.1{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{number + layers + 1}.0.op{rest.removeprefix('.conv')}"
    start = f"output_blocks.{number}" if way == "up" else f"input_blocks.{number + 1}"
    return f"{start}.{part}{rest}"


def vae_tensor(name: str, value: Tensor, blocks: int) -> tuple[str, Tensor]:
    """Decoder's blocks are numbered from the other end; attention is convolutions of 1 x 1."""
    name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{blocks - 1 - int(m[1])}", name)
    if re.search(r"attentions.*to_.*weight", name):
        value = value[..., None, None]
    return renamed(name, VAE), value


def vae(model: Any, start: str) -> dict[str, Tensor]:
    """The autoencoder; ``start`` is what its names begin with."""
    blocks = len(model.config.block_out_channels)
    state = model.state_dict().items()
    found = (vae_tensor(name, value, blocks) for name, value in state)
    return {f"{start}{name}": value for name, value in found}


def openclip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of OpenCLIP: attention's projections are one matrix, the last one stands on its side."""
    found = {}
    for name, value in state.items():
        name = name.removeprefix("text_model.")
        if "q_proj" in name:
            three = [state[key] for key in (_other(state, name, x) for x in "qkv")]
            joined = renamed(name, OPENCLIP).replace("self_attn.q_proj.", "attn.in_proj_")
            found[joined] = torch.cat(three)
        elif "k_proj" not in name and "v_proj" not in name:
            turned = value.T if name == "text_projection.weight" else value
            found[renamed(name, OPENCLIP)] = turned
    return found


def _other(state: dict[str, Tensor], name: str, letter: str) -> str:
    name = name.replace("q_proj", f"{letter}_proj")
    return name if name in state else f"text_model.{name}"


def texts(pipe: Any) -> dict[str, Tensor]:
    """The text encoders: CLIP's for Stable Diffusion 1.x, OpenCLIP's for 2.x, both for XL."""
    clip = pipe.text_encoder.state_dict()
    clip = {f"text_model.{name.removeprefix('text_model.')}": x for name, x in clip.items()}
    if hasattr(pipe, "text_encoder_2"):
        second = openclip(pipe.text_encoder_2.state_dict())
        return {f"conditioner.embedders.0.transformer.{name}": x for name, x in clip.items()} | {
            f"conditioner.embedders.1.model.{name}": x for name, x in second.items()
        }
    if pipe.scheduler.config.prediction_type == "v_prediction":
        return {f"cond_stage_model.model.{name}": x for name, x in openclip(clip).items()}
    return {f"cond_stage_model.transformer.{name}": x for name, x in clip.items()}


def save(pipe: Any, file: Path) -> Path:
    """Write the file; returns it."""
    layers = pipe.unet.config.layers_per_block
    found = {
        f"model.diffusion_model.{unet_name(name, layers)}": value
        for name, value in pipe.unet.state_dict().items()
    }
    found |= vae(pipe.vae, "first_stage_model.") | texts(pipe)
    save_file({name: value.contiguous() for name, value in found.items()}, file)
    return file
