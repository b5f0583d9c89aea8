"""Stage 2: CLIP (transformers ``CLIPModel``), trained contrastively on pictures and captions."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from evoken.models.clip import MEAN, STD
from stickers import training
from stickers.autoencoder import to_images
from stickers.data import Dataset
from stickers.vocabulary import MAX_LENGTH

SETTINGS = training.Settings(
    samples=200_000, batch=256, learning_rate=1e-3, warmup_steps=300, weight_decay=0.05
)
# For trained weights that learn new nouns.
CONTINUED = replace(SETTINGS, samples=320_000, cooldown=0.5)
WIDTH = 256


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
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (MEAN, STD))
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
    return out.input_ids


def start_from(trained: CLIPModel, words: CLIPTokenizer, new: CLIPTokenizer, path: Path) -> None:
    """Write a checkpoint of trained weights under a new vocabulary: the vectors of tokens that both
    have are kept, the others start at random. Does nothing where a checkpoint is.
    """
    if path.exists():
        return
    model = build(new)
    weights = trained.state_dict()
    table = "text_model.embeddings.token_embedding.weight"
    old, rows = words.get_vocab(), model.state_dict()[table].clone()
    for token, i in new.get_vocab().items():
        if token in old:
            rows[i] = weights[table][old[token]]
    model.load_state_dict(weights | {table: rows})
    training.start_from(model, path)


def train(
    dataset: Dataset,
    tokenizer: CLIPTokenizer,
    folder: Path,
    device: torch.device,
    minutes: float,
    settings: training.Settings = SETTINGS,
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
    model.set_attn_implementation("eager")  # for short sequences the fused backward is slower
    training.train("clip", model, loss, settings, folder, device, minutes)
    return model
