"""The rows of all contests, and which variant of a method they say is best."""

import base64
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import figures
from benchmarks.evidence.tables import ALL, MODELS, TUNING, concepts
from evoken.arrays import Vectors
from evoken.models.embedded import STICKERS

RESULTS = Path(__file__).parent.with_suffix(".jsonl")
WEIGHTS = "diffusion_pytorch_model.safetensors"
DENOISERS = {"stickers": "unet", "stickers-flow": "transformer"}

Job = tuple[str, str, str, int]  # method, variant, concept, seed
Rows = Mapping[Job, dict[str, Any]]


@cache
def weights(model: str) -> str:
    """Names the shipped denoiser that a result belongs to."""
    file = STICKERS / model / DENOISERS[model] / WEIGHTS
    return sha256(file.read_bytes()).hexdigest()[:12]


def done(model: str) -> Rows:
    """The results on the weights of a model."""
    return {
        (row["method"], row["variant"], row["noun"], row["seed"]): row
        for row in figures.results(RESULTS)
        if row["weights"] == weights(model)
    }


def best_variant(method: str, model: str) -> str:
    """The variant with the lowest mean loss on the concepts to tune on: with the model itself, or
    where it was not tuned on that one, with the sticker model. Lengths and rates are in units of
    the vocabulary, so they mean the same on both.
    """
    tuned = ALL[method].like or method
    variants = list(ALL[tuned].variants)
    if len(variants) == 1:
        return variants[0]
    nouns = concepts(True, TUNING)
    for known in map(done, dict.fromkeys((model, MODELS[0]))):
        if all((tuned, v, noun, 0) in known for v in variants for noun in nouns):
            losses = {v: [known[tuned, v, noun, 0]["loss"] for noun in nouns] for v in variants}
            mean = {v: np.nan_to_num(np.mean(its), nan=np.inf) for v, its in losses.items()}
            return min(variants, key=lambda v: mean[v])
    raise SystemExit(f"{tuned} is not tuned yet: python -m benchmarks.evidence --tuning")


def packed(word: Vectors) -> str:
    """A word as rows hold it: its numbers in half precision, in base64."""
    return base64.b64encode(word.numpy().astype("<f2").tobytes()).decode()


def unpacked(text: str, width: int) -> Vectors:
    """Vector x width, float32."""
    numbers = np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)
    return torch.from_numpy(numbers.reshape(-1, width))
