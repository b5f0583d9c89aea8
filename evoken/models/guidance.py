"""Classifier-free guidance (Ho & Salimans 2022)."""

import torch

from evoken.arrays import Hidden, Latents, NoiseLevels
from evoken.models.base import Model


def guided(
    model: Model,
    latents: Latents,
    t: NoiseLevels,
    unconditional: Hidden,
    hidden: Hidden,
    scale: float,
) -> Latents:
    """The prediction pushed away from what an empty prompt gives; two calls per item.

    Args:
        unconditional: 1 x token x width, of the empty prompt.
        scale: 1 is the prediction itself.
    """
    both = torch.cat([unconditional.expand(len(hidden), -1, -1), hidden])
    without, with_prompt = model.denoise(latents.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
    return without + scale * (with_prompt - without)
