"""Stable Diffusion 1.x as one file, with the names of weights of the first release."""

import re
from pathlib import Path

from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip
VAE = {
    "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1", "group_norm": "norm", "to_q": "q", "to_k": "k",
    "to_v": "v", "to_out.0": "proj_out", "conv_norm_out": "norm_out",
    "downsamplers.0": "downsample", "upsamplers.0": "upsample", "conv_shortcut": "nin_shortcut",
    ".resnets.": ".block.", "down_blocks": "down",
}  # fmt: skip


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


def save(pipe: StableDiffusionPipeline, file: Path) -> Path:
    """Write the file; returns it."""
    layers, blocks = pipe.unet.config.layers_per_block, len(pipe.vae.config.block_out_channels)
    found = {
        f"model.diffusion_model.{unet_name(name, layers)}": value
        for name, value in pipe.unet.state_dict().items()
    }
    for name, value in pipe.vae.state_dict().items():
        ldm, changed = vae_tensor(name, value, blocks)
        found[f"first_stage_model.{ldm}"] = changed
    for name, value in pipe.text_encoder.state_dict().items():
        found[f"cond_stage_model.transformer.text_model.{name}"] = value
    save_file({name: value.contiguous() for name, value in found.items()}, file)
    return file
