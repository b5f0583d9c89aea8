"""Small models, quantised by the real libraries: as folders, and as GGUF files."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import FluxPipeline, FluxTransformer2DModel
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from evoken.quiet import quiet_loading
from tests import tiny

WIDTH = 128  # the libraries leave smaller layers as they are


def flux(folder: Path) -> Path:
    """A FLUX.1 whose layers are large enough, as a folder."""
    pipe = tiny.flux_pipeline()
    torch.manual_seed(8)
    changes = {
        "attention_head_dim": 32,
        "num_attention_heads": WIDTH // 32,
        "axes_dims_rope": (8, 8, 16),
        "joint_attention_dim": WIDTH,
    }
    own = {k: v for k, v in pipe.transformer.config.items() if not k.startswith("_")}
    _, words = tiny.t5(WIDTH, room=24)
    large = {"d_model": WIDTH, "d_kv": 32, "d_ff": 2 * WIDTH, "num_layers": 1, "num_heads": 4}
    pipe.register_modules(
        transformer=FluxTransformer2DModel(**own | changes).eval(),
        text_encoder_2=T5EncoderModel(T5Config(vocab_size=len(words), **large)).eval(),
        tokenizer_2=words,
    )
    pipe.save_pretrained(folder)
    return folder


def torchao(name: str) -> Callable[[Any], Any]:
    """Its configuration of this name, for diffusers or for transformers."""
    module = importlib.import_module("torchao.quantization")
    return lambda library: library.TorchAoConfig(getattr(module, name)())


def sdnq(kind: str) -> Callable[[Any], Any]:
    return lambda _: importlib.import_module("sdnq").SDNQConfig(weights_dtype=kind)


WAYS = {
    "torchao Int8WeightOnlyConfig": torchao("Int8WeightOnlyConfig"),
    "torchao Float8WeightOnlyConfig": torchao("Float8WeightOnlyConfig"),
    "sdnq int8": sdnq("int8"),
    "sdnq uint4": sdnq("uint4"),
}


@quiet_loading()
def quantized(plain: Path, folder: Path, way: str, dtype: torch.dtype) -> Path:
    """A FLUX.1 with quantised denoiser and T5, made from weights in this precision."""
    how = WAYS[way]
    denoiser = FluxTransformer2DModel.from_pretrained(
        plain / "transformer", quantization_config=how(diffusers), dtype=dtype
    )
    encoder = T5EncoderModel.from_pretrained(
        plain / "text_encoder_2", quantization_config=how(transformers), dtype=dtype
    )
    pipe = FluxPipeline.from_pretrained(
        plain, transformer=denoiser, text_encoder_2=encoder, dtype=dtype
    )
    pipe.save_pretrained(folder)
    return folder


def gguf(
    weights: dict[str, Tensor],
    file: Path,
    kind: str = "Q8_0",
    architecture: str = "",
    flat: bool = False,
) -> Path:
    """A GGUF file with weights by name: matrices of whole blocks are quantised, others float16.

    Args:
        flat: matrices are written in rows of one block, and their shape beside them, as converters
            for ComfyUI do.
    """
    writer, block = GGUFWriter(file, architecture), 32
    if not architecture:
        writer.kv_data[0].clear()
    for name, value in weights.items():
        array, how = value.float().numpy(), GGMLQuantizationType[kind]
        if flat and array.ndim == 2 and array.size % block == 0:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(array.shape))
            array = array.reshape(-1, block)
        if array.ndim == 2 and array.shape[1] % block == 0 and name.endswith("weight"):
            writer.add_tensor(name, quantize(array, how), raw_dtype=how)
        else:
            writer.add_tensor(name, array if array.ndim < 2 else array.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
