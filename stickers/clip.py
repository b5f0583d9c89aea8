"""Stage 2: CLIP (transformers ``CLIPModel``), trained contrastively on pictures and captions."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from stickers import training
from stickers.autoencoder import to_images
from stickers.data import Dataset
from stickers.vocabulary import MAX_LENGTH

SETTINGS = training.Settings(
    samples=400_000, batch=256, learning_rate=1e-3, warmup_steps=300, weight_decay=0.05
)
WIDTH = 256


MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Small towers of equal width; the text tower also conditions the denoiser."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_LENGTH,
        "projection_dim": WIDTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
        "projection_dim": WIDTH,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def clip_pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as CLIP's vision tower takes them (already 64 px)."""
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    return ((images + 1) / 2 - mean) / std


def tokenize(tokenizer: CLIPTokenizer, captions: list[str], full: bool) -> Tensor:
    """Token ids, N x length; padded to MAX_LENGTH if ``full``, else to the longest."""
    out = tokenizer(
        captions,
        padding="max_length" if full else True,
        truncation=True,
        max_length=MAX_LENGTH,
        return_tensors="pt",
    )
    return out.input_ids  # type: ignore[no-any-return]


def train(
    dataset: Dataset,
    tokenizer: CLIPTokenizer,
    folder: Path,
    device: torch.device,
    minutes: float,
) -> CLIPModel:
    """Symmetric cross-entropy over the similarities of a batch (Radford et al. 2021)."""
    ids = tokenize(tokenizer, dataset.captions, full=True)
    lengths = (ids == tokenizer.eos_token_id).int().argmax(1) + 1

    def loss(model: nn.Module, generator: torch.Generator, batch: int) -> training.Loss:
        index = torch.randint(len(dataset), (batch,), generator=generator).sort().values
        images = to_images(dataset.pixels[index.numpy()], device)
        text = ids[index, : int(lengths[index].max())].to(device)
        out = model(input_ids=text, pixel_values=clip_pixels(images))
        logits = out.logits_per_text.float()
        target = torch.arange(batch, device=device)
        value = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        hit = (logits.argmax(1) == target).float().mean()
        return value, {"in_batch": float(hit), "scale": float(model.logit_scale.detach().exp())}

    model = build(tokenizer)
    training.train("clip", model, loss, SETTINGS, folder, device, minutes)
    return model


@torch.no_grad()
def retrieval(model: CLIPModel, images: Tensor, ids: Tensor, among: int = 100) -> float:
    """R@1 of captions for pictures: share of pictures whose own caption is the nearest of ``among``."""
    similarity = model(input_ids=ids, pixel_values=clip_pixels(images)).logits_per_image
    blocks = [similarity[i : i + among, i : i + among] for i in range(0, len(images), among)]
    hits = [(b.argmax(1).cpu().numpy() == np.arange(len(b))).mean() for b in blocks]
    return float(np.mean(hits))
