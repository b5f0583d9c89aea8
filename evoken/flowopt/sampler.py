"""The black box f(z, c): a whole deterministic sampling process from noise to data.

Euler's method on the process's ordinary differential equation dx/ds = slope(x, s), over the last
n of T steps. For a flow x is the latents and s the noise level; for diffusion this is DDIM, in the
variables that make it Euler's method (see ``evoken.process.Process``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from evoken.arrays import NO_WORDS, Hidden, Latents, Words
from evoken.errors import SettingError
from evoken.models.base import Model
from evoken.options import at_least

Conditioning = TypeVar("Conditioning")


class Sampler(Protocol[Conditioning]):
    """f: latents at the first of some noise levels to latents at the last, which is data.

    Rows are pictures and know nothing of each other.

    Attributes:
        levels: n + 1 levels s of the ODE, from the start down to 0.
        start_scale: latents over the ODE's x at the start; 1 for flows.
        calls: calls of the denoiser so far, pictures counted; with classifier-free guidance two per
            step.
    """

    levels: tuple[float, ...]
    start_scale: float
    calls: int

    def __call__(self, latents: Latents, conditioning: Conditioning) -> Latents:
        """f(z, c): n steps, in float32."""

    def slope(self, x: Latents, level: float, conditioning: Conditioning) -> Latents:
        """dx/ds at one level, from one step's calls; at 0, where a flow has no velocity, that of a
        level close by.
        """

    def rows(self, conditioning: Conditioning, rows: Tensor) -> Conditioning:
        """The conditioning of some pictures (indices)."""


@dataclass(frozen=True)
class Prompts:
    """What a ``ModelSampler`` is conditioned on; one row per picture.

    Attributes:
        hidden: N x token x width.
        guidance: its scale; 1 means none, and one call per step. See ``Model.guided``.
    """

    hidden: Hidden
    guidance: float = 1.0


def last_levels(levels: Sequence[float], count: int) -> tuple[float, ...]:
    """The last ``count`` steps' levels; 0 means all.

    Raises:
        SettingError: there are fewer steps.
    """
    steps = len(levels) - 1
    if not 0 <= count <= steps:
        raise SettingError(
            f"`last` must be from 0, which means all, to the number of steps, {steps} (got "
            f"{count})."
        )
    return tuple(levels[-(count or steps) - 1 :])


class ModelSampler:
    """f on one of our models. See ``Sampler``."""

    def __init__(self, model: Model, steps: int = 10, last: int = 0) -> None:
        """
        Args:
            steps: T, of the whole schedule.
            last: n, how many of its last steps f takes; 0 means all.
        """
        at_least("steps", steps, 1)
        self.model, self.calls = model, 0
        self.levels = last_levels(model.schedule(steps), last)
        self.start_scale = model.process.scale(self.levels[0])

    def condition(
        self,
        prompts: Sequence[str],
        guidance: float = 1.0,
        words: Words = NO_WORDS,
    ) -> Prompts:
        """One prompt per picture, and what is put where words are in them."""
        return Prompts(self.model.condition(prompts, words), guidance)

    def slope(self, x: Latents, level: float, conditioning: Prompts) -> Latents:
        """dx/ds, guided."""
        process = self.model.process
        t = torch.full((len(x),), process.t_of(level))
        latents = x * process.scale(level)
        before = self.model.calls
        predicted = self.model.guided(latents, t, conditioning.hidden, conditioning.guidance)
        self.calls += self.model.calls - before
        return process.slope(latents, predicted, t)

    def rows(self, conditioning: Prompts, rows: Tensor) -> Prompts:
        """The conditioning of some pictures."""
        return Prompts(conditioning.hidden[rows], conditioning.guidance)

    def __call__(self, latents: Latents, conditioning: Prompts) -> Latents:
        """Euler's method down the levels."""
        x = latents / self.start_scale
        for level, lower in pairwise(self.levels):
            x = x + (lower - level) * self.slope(x, level, conditioning)
        return x


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """One number per picture, shaped to be multiplied with its latents."""
    return values.view(-1, *[1] * (like.ndim - 1))


def rms(latents: Latents) -> Tensor:
    """Root mean square of each picture's latents."""
    return latents.double().flatten(1).square().mean(1).sqrt()
