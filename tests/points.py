"""A flow whose data is known: every prompt has one picture, so that its velocities are exact."""

import hashlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from evoken.arrays import Hidden, Images, Latents, NoiseLevels, Words
from evoken.process import RectifiedFlow

SHAPE = (4, 8, 8)


def picture(prompt: str) -> Latents:
    """The latents of the only picture of a prompt."""
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big")
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


class PointModel:
    """Its velocity leads from wherever one is to the picture of the prompt: v(x, s) = (x - d) / s.

    Attributes:
        calls: rows of the denoiser so far.
        sources: the prompts of the images that are encoded next, since images say nothing here.
    """

    process = RectifiedFlow()

    def __init__(self, sources: Sequence[str]) -> None:
        self.calls, self.sources = 0, sources
        self.spec = SimpleNamespace(device="cpu")

    def schedule(self, steps: int) -> list[float]:
        return [1 - i / steps for i in range(steps)] + [0.0]

    def condition(self, prompts: Sequence[str], words: Words | None = None) -> Hidden:
        return torch.stack([picture(p) for p in prompts])

    def guided(self, latents: Latents, t: NoiseLevels, hidden: Hidden, guidance: float) -> Latents:
        self.calls += len(latents) * (1 if guidance == 1 else 2)
        data = picture("") + guidance * (hidden - picture(""))
        return (latents - data) / t.view(-1, 1, 1, 1).clamp(min=1e-3)

    def encode(self, images: Images) -> Latents:
        return torch.stack([picture(p) for p in self.sources])

    def decode(self, latents: Latents) -> Any:
        """The latents themselves."""
        return latents
