"""Stable Diffusion 3 and FLUX.1 as one file, with the names of weights of their first releases."""

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor

from tests.ldm import renamed, vae

SD3 = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.add_qkv": "context_block.attn.qkv",
    "attn.norm_added_": "context_block.attn.ln_",
    "transformer_blocks": "joint_blocks",
}
# Of the attention to the picture, and of the second one beside it in 3.5.
SD3_ATTENTION = {"to_out.0": "proj", "to_qkv": "qkv", "norm_": "ln_"}

FLUX = {
    "time_text_embed.timestep_embedder": "time_in",
    "time_text_embed.text_embedder": "vector_in",
    "time_text_embed.guidance_embedder": "guidance_in",
    "linear_1": "in_layer",
    "linear_2": "out_layer",
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
}
FLUX_DOUBLE = {
    "norm1_context.linear": "txt_mod.lin",
    "norm1.linear": "img_mod.lin",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "attn.to_add_out": "txt_attn.proj",
    "attn.to_out.0": "img_attn.proj",
    "attn.add_qkv": "txt_attn.qkv",
    "attn.to_qkv": "img_attn.qkv",
    "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
    "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
    "attn.norm_q.weight": "img_attn.norm.query_norm.scale",
    "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
    "transformer_blocks": "double_blocks",
}
FLUX_SINGLE = {
    "norm.linear": "modulation.lin",
    "attn.to_qkv": "linear1",
    "proj_out": "linear2",
    "attn.norm_q.weight": "norm.query_norm.scale",
    "attn.norm_k.weight": "norm.key_norm.scale",
    "single_transformer_blocks": "single_blocks",
}


def joined(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Attention's projections are one matrix; in FLUX's single blocks so is the next layer's."""
    found = {}
    for name, value in state.items():
        if match := re.search(r"(to_q|add_q_proj)\.", name):
            begin, word, rest = name.partition(match[1])
            rows = [value, *(state[begin + word.replace("q", x) + rest] for x in "kv")]
            if name.startswith("single"):
                rows.append(state[begin.replace("attn.", "proj_mlp") + rest])
            found[f"{begin}{word.removesuffix('_proj')}kv{rest}"] = torch.cat(rows)
        elif not re.search(r"(to_[kv]|add_[kv]_proj|proj_mlp)\.", name):
            found[name] = value
    return found


def shift_first(value: Tensor) -> Tensor:
    """The last modulation's shift stands before its scale."""
    return torch.cat(value.chunk(2)[::-1])


def sd3(transformer: Any) -> dict[str, Tensor]:
    last = f"transformer_blocks.{transformer.config.num_layers - 1}.norm1_context"
    found = {}
    for name, value in joined(transformer.state_dict()).items():
        if name.startswith(("norm_out", last)):
            value = shift_first(value)
        name = name.replace("proj_out", "final_layer.linear")
        if match := re.search(r"\.(attn2?\.)(to_qkv|to_out|norm_[qk])", name):
            name = renamed(name.replace(match[1], f"x_block.{match[1]}"), SD3_ATTENTION)
        found[renamed(name, SD3)] = value
    return found


def flux(transformer: Any) -> dict[str, Tensor]:
    found = {}
    for name, value in joined(transformer.state_dict()).items():
        if name.startswith("norm_out"):
            value = shift_first(value)
        if name.startswith("proj_out"):
            name = name.replace("proj_out", "final_layer.linear")
        blocks = FLUX_SINGLE if name.startswith("single") else FLUX_DOUBLE
        found[renamed(renamed(name, blocks if "blocks" in name else {}), FLUX)] = value
    return found


def save(pipe: Any, file: Path, vae_name: str = "", texts: dict[str, Any] | None = None) -> Path:
    """Write the file; returns it.

    Args:
        vae_name: what the autoencoder's names begin with; "" leaves it out.
        texts: text encoders that are in the file as well, by their names there.
    """
    if isinstance(pipe.transformer, FluxTransformer2DModel):
        found = flux(pipe.transformer)
    else:
        found = {f"model.diffusion_model.{k}": v for k, v in sd3(pipe.transformer).items()}
    if vae_name:
        found |= vae(pipe.vae, vae_name)
    for name, encoder in (texts or {}).items():
        for key, value in encoder.state_dict().items():
            inner = re.sub(r"^(embeddings|encoder.layers|final)", r"text_model.\1", key)
            found[f"text_encoders.{name}.transformer.{inner}"] = value
    save_file({name: value.contiguous().clone() for name, value in found.items()}, file)
    return file
