"""Whether the parts of a loaded model fit one another, and whether their weights are numbers."""

from typing import Any

import torch
from torch import nn

from evoken.errors import ModelError, shown
from evoken.models.autoencoders import autoencoder_of
from evoken.models.bases import Base
from evoken.models.quantized import stored

# Rows of a table beyond its vocabulary: T5's is rounded up to a multiple of 128, and Qwen's leaves
# room for 399 tokens more.
SLACK = 512
CHANNELS = {9: "an inpainting model", 8: "a model that edits by instructions", 5: "a depth model"}
AGAIN = "Copy or download the model again, with all of its files."


def check_sound(pipeline: Any, base: Base, name: str) -> None:
    """Raise ``ModelError`` unless vocabularies fit the tables of embeddings, the lengths, widths
    and channels fit one another, and all weights are finite.

    Args:
        name: of the model, for messages.
    """
    for i in ("", "_2", "_3"):
        encoder = getattr(pipeline, f"text_encoder{i}", None)
        words = getattr(pipeline, f"tokenizer{i}", None)
        if encoder is not None and words is not None:
            check_text(encoder, words, f"tokenizer{i} of {shown(name, 200)}")
    _check_channels(pipeline, base, name)
    for part, module in pipeline.components.items():
        if isinstance(module, nn.Module):
            check_finite(module, f"{part} of {shown(name, 200)}")


def check_text(encoder: Any, tokenizer: Any, what: str) -> None:
    """Raise ``ModelError`` unless a tokenizer can be that of a text encoder.

    Args:
        what: they are of, for messages: "tokenizer of 'some/model'".
    """
    from evoken.libraries import transformers

    rows = int(encoder.get_input_embeddings().weight.shape[0])
    found = max(tokenizer.get_vocab().values(), default=-1) + 1
    if not rows - SLACK <= found <= rows:
        raise ModelError(
            f"the vocabulary of the {what} does not fit its text encoder: {found:,} tokens for "
            f"{rows:,} embeddings.",
            "Take tokenizer and text encoder from the same model.",
        )
    # CLIP has a table of positions; others have none, or read less of a prompt than they could.
    config = getattr(encoder.config, "text_config", encoder.config)
    room = getattr(config, "max_position_embeddings", 0)
    if isinstance(tokenizer, transformers.CLIPTokenizer) and tokenizer.model_max_length > room:
        raise ModelError(
            f"the {what} makes prompts of {tokenizer.model_max_length:,} tokens, and its text "
            f"encoder reads {room:,}.",
            AGAIN,
        )


def _check_channels(pipeline: Any, base: Base, name: str) -> None:
    """Of latents, between denoiser and autoencoder; of a U-Net also the width of what it reads."""
    unet = getattr(pipeline, "unet", None)
    latents = autoencoder_of(pipeline.vae).channels * base.packs
    denoiser = pipeline.transformer if unet is None else unet
    channels = int(denoiser.config.in_channels)
    if channels != latents:
        special = CHANNELS.get(channels) if unet is not None else None
        raise ModelError(
            f"the denoiser of {shown(name, 200)} must read {latents} channels, as its "
            f"autoencoder makes them (got {channels}{f': {special}' if special else ''}).",
            "Give a text to image model." if special else "Take both from the same model.",
        )
    if unet is None:
        return
    texts = [getattr(pipeline, f"text_encoder{i}", None) for i in ("", "_2")]
    width = sum(int(text.config.hidden_size) for text in texts if text is not None)
    wanted = unet.config.cross_attention_dim
    if isinstance(wanted, int) and unet.config.encoder_hid_dim is None and wanted != width:
        raise ModelError(
            f"the denoiser of {shown(name, 200)} reads a prompt of width {wanted}, and its text "
            f"encoders make one of {width}.",
            "Take both from the same model.",
        )


@torch.no_grad()
def check_finite(module: nn.Module, what: str) -> None:
    """Raise ``ModelError`` for weights that are infinite or no numbers.

    Args:
        what: it is, for messages: "unet of 'some/model'".
    """
    for key, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor) or value.is_meta or value.is_quantized:
            continue
        numbers = [x for x in stored(value) if x.numel() and x.is_floating_point()]
        if not all(map(finite, numbers)):
            half = value.dtype == torch.float16
            too_large = " or too large for float16" if half else ""
            raise ModelError(
                f"the {what} has weights that are no finite numbers{too_large}, in {shown(key)}.",
                "Copy or download the model again."
                + (" If that does not help, set `precision` to float32." if half else ""),
            )


def finite(values: torch.Tensor) -> bool:
    """Whether all values are; without a copy of them."""
    if values.itemsize == 1:  # which has no order in torch
        values = values.half()
    return all(bool(end.isfinite()) for end in values.aminmax())
