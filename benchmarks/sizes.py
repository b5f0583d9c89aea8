"""How large the models are in full size: the ``sizes.*`` figures and the table of docs/models.md.

    python -m benchmarks.sizes

Nothing is downloaded and nothing is computed: the classes of diffusers and transformers are built
without weights from the values in the published configurations, and evoken decides as for a loaded
model what is kept of them and in which precision. So these are bytes of weights; what a batch needs
beside them is not among them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from benchmarks import figures
from evoken.models.card import weights_of
from evoken.models.families.flux_2 import DEV_LAYERS, KLEIN_LAYERS
from evoken.models.runtimes.precision import keep_weights
from evoken.spec import ModelSpec

KEPT = {"bf16": "bf16", "int8": "int8", "4bit": "4 bits"}  # the columns' names
# Bytes of a weight in NF4 (Dettmers et al. 2023): a float32 scale for every 64.
NF4 = 0.5 + 4 / 64
BFLOAT16 = ModelSpec(precision="bfloat16")
# An autoencoder's weights are float32, or int8.
WHOLE = ModelSpec()


def _of(module: Any, name: str, **values: Any) -> nn.Module:
    """A model of diffusers; of what is not given, its class has the published value."""
    found: nn.Module = getattr(module, name)(**values)
    return found


_diffusers = partial(_of, diffusers)


def _text(model: str, config: str, **values: Any) -> nn.Module:
    """A model of transformers."""
    built: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**values))
    return built


def _clip(width: int, layers: int, heads: int, projected: bool = True) -> nn.Module:
    name = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
    return _text(
        name,
        "CLIPTextConfig",
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
    )


def _t5() -> nn.Module:
    return _text(
        "T5EncoderModel",
        "T5Config",
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    )


def _language(
    kind: str, words: int, width: int, inner: int, layers: int, heads: tuple[int, int], **more: int
) -> nn.Module:
    """The layers of a language model; heads are those of queries, and of keys and values."""
    return _text(
        f"{kind}Model",
        f"{kind}Config",
        vocab_size=words,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        **more,
    )


def _qwen3(width: int, inner: int, layers: int) -> nn.Module:
    return _language("Qwen3", 151936, width, inner, layers, (32, 8), head_dim=128)


def _mistral3(layers: int) -> nn.Module:
    return _language("Mistral", 131072, 5120, 32768, layers, (32, 8), head_dim=128)


def _qwen25() -> nn.Module:
    # The language model of Qwen2.5-VL has the layers of Qwen2.
    return _language("Qwen2", 152064, 3584, 18944, 28, (28, 4))


def _gemma2(layers: int) -> nn.Module:
    return _language("Gemma2", 256000, 2304, 9216, layers, (8, 4), head_dim=256)


def _kl(channels: int, quantised: bool) -> nn.Module:
    """The autoencoders of Stable Diffusion 1 to 3 and of FLUX.1."""
    return _diffusers(
        "AutoencoderKL",
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=channels,
        use_quant_conv=quantised,
        use_post_quant_conv=quantised,
    )


def _unet(**values: Any) -> nn.Module:
    return _diffusers("UNet2DConditionModel", **values)


def _xl_unet() -> nn.Module:
    return _unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def _sd3(depth: int, **values: Any) -> nn.Module:
    return _diffusers(
        "SD3Transformer2DModel",
        num_layers=depth,
        num_attention_heads=depth,
        caption_projection_dim=64 * depth,
        joint_attention_dim=4096,
        pooled_projection_dim=2048,
        **values,
    )


def _flux2(double: int, single: int, heads: int, joint: int, guided: bool = False) -> nn.Module:
    return _diffusers(
        "Flux2Transformer2DModel",
        num_layers=double,
        num_single_layers=single,
        num_attention_heads=heads,
        joint_attention_dim=joint,
        guidance_embeds=guided,
    )


def _deep() -> nn.Module:
    """SANA's autoencoder."""
    sides = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    scales = ((), (), (), (5,), (5,), (5,))
    return _diffusers(
        "AutoencoderDC",
        encoder_block_types=sides,
        decoder_block_types=sides,
        encoder_block_out_channels=(128, 256, 512, 512, 1024, 1024),
        decoder_block_out_channels=(128, 256, 512, 512, 1024, 1024),
        encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
        decoder_layers_per_block=(3, 3, 3, 3, 3, 3),
        encoder_qkv_multiscales=scales,
        decoder_qkv_multiscales=scales,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
    )


@dataclass(frozen=True)
class Size:
    """A model in full size.

    Attributes:
        name: as people call it.
        parts: how each is built: the denoiser, the text encoders up to the last layer that is
            read, the autoencoder.
    """

    name: str
    parts: Mapping[str, Any]


_CLIP_L = partial(_clip, 768, 12, 12)
_CLIPS = {"clip_l": _CLIP_L, "clip_g": partial(_clip, 1280, 32, 20)}
_SD3 = {**_CLIPS, "t5xxl": _t5, "vae": partial(_kl, 16, False)}
_FLUX = {"clip_l": partial(_clip, 768, 12, 12, False), "t5xxl": _t5, "vae": _SD3["vae"]}
_FLUX2_VAE = partial(_diffusers, "AutoencoderKLFlux2")
_UNET_1 = partial(_unet, cross_attention_dim=768)
_UNET_2 = partial(
    _unet, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
)
_SD35 = {"qk_norm": "rms_norm"}
_LUMINA = {"cap_feat_dim": 2304, "axes_lens": (300, 512, 512)}


def _sana(**values: Any) -> dict[str, Any]:
    return {
        "denoiser": partial(_diffusers, "SanaTransformer2DModel", caption_channels=2304, **values),
        "gemma2_2b": partial(_gemma2, 26),
        "vae": _deep,
    }


def _klein(double: int, single: int, heads: int, width: int, inner: int) -> dict[str, Any]:
    joint = len(KLEIN_LAYERS) * width
    return {
        "denoiser": partial(_flux2, double, single, heads, joint),
        "qwen3": partial(_qwen3, width, inner, max(KLEIN_LAYERS)),
        "vae": _FLUX2_VAE,
    }


SIZES = {
    "sd15": Size(
        "Stable Diffusion 1.5",
        {
            "denoiser": _UNET_1,
            "clip_l": partial(_clip, 768, 12, 12, False),
            "vae": partial(_kl, 4, True),
        },
    ),
    "sd21": Size(
        "Stable Diffusion 2.1",
        {
            "denoiser": _UNET_2,
            "clip_h": partial(_clip, 1024, 23, 16, False),
            "vae": partial(_kl, 4, True),
        },
    ),
    "sdxl": Size(
        "Stable Diffusion XL",
        {
            "denoiser": _xl_unet,
            "clip_l": partial(_clip, 768, 12, 12, False),
            "clip_g": _CLIPS["clip_g"],
            "vae": partial(_kl, 4, True),
        },
    ),
    "sd3": Size(
        "Stable Diffusion 3 medium",
        {"denoiser": partial(_sd3, 24, pos_embed_max_size=192), **_SD3},
    ),
    "sd35-medium": Size(
        "Stable Diffusion 3.5 medium",
        {
            "denoiser": partial(
                _sd3,
                24,
                pos_embed_max_size=384,
                dual_attention_layers=tuple(range(13)),
                **_SD35,
            ),
            **_SD3,
        },
    ),
    "sd35-large": Size(
        "Stable Diffusion 3.5 large",
        {"denoiser": partial(_sd3, 38, pos_embed_max_size=192, **_SD35), **_SD3},
    ),
    "flux-dev": Size(
        "FLUX.1 [dev]",
        {"denoiser": partial(_diffusers, "FluxTransformer2DModel", guidance_embeds=True), **_FLUX},
    ),
    "flux-schnell": Size(
        "FLUX.1 [schnell]", {"denoiser": partial(_diffusers, "FluxTransformer2DModel"), **_FLUX}
    ),
    "klein-4b": Size("FLUX.2 [klein] 4B", _klein(5, 20, 24, 2560, 9728)),
    "klein-9b": Size("FLUX.2 [klein] 9B", _klein(8, 24, 32, 4096, 12288)),
    "flux-2-dev": Size(
        "FLUX.2 [dev]",
        {
            "denoiser": partial(_flux2, 8, 48, 48, 15360, True),
            "mistral3_24b": partial(_mistral3, max(DEV_LAYERS)),
            "vae": _FLUX2_VAE,
        },
    ),
    "z-image": Size(
        "Z-Image, Z-Image-Turbo",
        {
            "denoiser": partial(_diffusers, "ZImageTransformer2DModel"),
            "qwen3_4b": partial(_qwen3, 2560, 9728, 35),
            "vae": _SD3["vae"],
        },
    ),
    "qwen-image": Size(
        "Qwen-Image",
        {
            "denoiser": partial(_diffusers, "QwenImageTransformer2DModel"),
            "qwen25_7b": _qwen25,
            "vae": partial(_diffusers, "AutoencoderKLQwenImage"),
        },
    ),
    "sana-1600m": Size("SANA 1.6B", _sana()),
    "sana-600m": Size(
        "SANA 0.6B",
        _sana(
            num_layers=28,
            num_attention_heads=36,
            num_cross_attention_heads=16,
            cross_attention_head_dim=72,
            cross_attention_dim=1152,
        ),
    ),
    "lumina-2": Size(
        "Lumina 2",
        {
            "denoiser": partial(_diffusers, "Lumina2Transformer2DModel", **_LUMINA),
            "gemma2_2b": partial(_gemma2, 25),
            "vae": _SD3["vae"],
        },
    ),
    "chroma": Size(
        "Chroma",
        {
            "denoiser": partial(_diffusers, "ChromaTransformer2DModel"),
            "t5xxl": _t5,
            "vae": _SD3["vae"],
        },
    ),
}


def weights(build: Callable[[], nn.Module], name: str, kept: str) -> int:
    """Bytes of a part's weights as evoken keeps them.

    Args:
        build: the part.
        name: "denoiser", "vae", or that of a text encoder.
        kept: one of KEPT. int8 has a float32 scale for each output; with it, a text encoder's
            embeddings are float16. Four bits are those of a layer's weights, without its bias.
    """
    with torch.device("meta"):
        part = build()
    if kept == "int8":
        return sum(_int8(layer, name) for layer in part.modules())
    keep_weights(part, WHOLE if name == "vae" else BFLOAT16)
    if kept == "bf16" or name == "vae":
        return weights_of(part)
    linear = [m.weight for m in part.modules() if isinstance(m, nn.Linear)]
    return weights_of(part) + sum(int(x.numel() * NF4) - x.nbytes for x in linear)


def _int8(layer: nn.Module, name: str) -> int:
    """Bytes of a layer's own weights, where those of linear layers and convolutions are int8."""
    own = {
        **dict(layer.named_parameters(recurse=False)),
        **dict(layer.named_buffers(recurse=False)),
    }
    found = 0
    for what, value in own.items():
        if what == "weight" and isinstance(layer, nn.Linear | nn.Conv2d):
            found += value.numel() + 4 * len(value)
        elif isinstance(layer, nn.Embedding) and name not in ("denoiser", "vae"):
            found += 2 * value.numel()
        else:
            found += 4 * value.numel()
    return found


def measure(size: Size) -> dict[str, float]:
    """Billions of parameters that are kept, and by way to keep them the GB of all parts and of the
    largest.
    """
    with torch.device("meta"):
        parameters = sum(x.numel() for b in size.parts.values() for x in b().parameters())
    found = {"parameters": parameters / 1e9}
    for kept in KEPT:
        each = {name: weights(build, name, kept) for name, build in size.parts.items()}
        texts = sum(n for name, n in each.items() if name not in ("denoiser", "vae"))
        found[f"{kept}.all"] = sum(each.values()) / 1e9
        found[f"{kept}.part"] = max(each["denoiser"], each["vae"], texts) / 1e9
    return found


def table(known: Mapping[str, Any]) -> str:
    """One row per model, with its figures; "" if there are none."""
    heads = [f"{kept}{which}" for kept in KEPT.values() for which in ("", ", `--offload`")]
    rows = [["model", "parameters", *heads], ["---"] * (2 + len(heads))]
    names = [f"{kept}.{which}" for kept in KEPT for which in ("all", "part")]
    for name, size in SIZES.items():
        if f"sizes.{name}.parameters" in known:
            cells = [f"{known[f'sizes.{name}.{column}']:.1f} GB" for column in names]
            rows.append([size.name, f"{known[f'sizes.{name}.parameters']:.1f} billion", *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) if len(rows) > 2 else ""


def main() -> None:
    found = {
        f"sizes.{name}.{column}": round(value, 3)
        for name, size in SIZES.items()
        for column, value in measure(size).items()
    }
    figures.update(found)


if __name__ == "__main__":
    main()
