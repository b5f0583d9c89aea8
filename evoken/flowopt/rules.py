"""How far an iteration goes: z <- z + change, where the official update is change = -eta r.

r = f(z, c) - y is the residual. It is a vector, and what two points and their residuals tell about
f's Jacobian is worth more than a well-chosen eta; all rules but the first use it. Rows (pictures)
never mix.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from evoken.arrays import Latents
from evoken.flowopt.sampler import per_row
from evoken.flowopt.secants import cancelled, step_bound
from evoken.options import above_zero, at_least


class StepRule(Protocol):
    """Says the next change of z; keeps what it needs of earlier points."""

    def change(self, z: Latents, residual: Latents) -> Latents:
        """The change after f(z) - y = ``residual`` was found at z, N x ... both."""

    def restart(self, rows: Tensor) -> None:
        """Rows (N, bool) have diverged and go on from an earlier point: forget their history and
        be half as bold.
        """


class _Rule:
    """What rules share: a boldness per row, and the last point to take differences from."""

    def __init__(self, eta: float) -> None:
        above_zero("eta", eta)
        self.eta = eta
        self._boldness = torch.ones(0)
        self._last: tuple[Latents, Latents] | None = None
        self._fresh = torch.ones(0, dtype=torch.bool)  # rows without a last point

    def _prepare(self, z: Latents) -> None:
        if not len(self._boldness):
            self._boldness = torch.ones(len(z), dtype=torch.float64, device=z.device)
            self._fresh = torch.ones(len(z), dtype=torch.bool, device=z.device)

    def _differences(self, z: Latents, residual: Latents) -> tuple[Tensor, Tensor] | None:
        """Change of z and of the residual since the last point, N x D in double precision; zero in
        rows without one.
        """
        last, fresh = self._last, self._fresh
        self._last, self._fresh = (z, residual), torch.zeros_like(fresh)
        if last is None:
            return None
        found = [(a - b).double().flatten(1) for a, b in zip((z, residual), last, strict=True)]
        keep = (~fresh).double()[:, None]
        return found[0] * keep, found[1] * keep

    def _along(self, direction: Latents, eta: Tensor | float) -> Latents:
        """-eta times a direction, with every row as bold as it is."""
        return -per_row(eta * self._boldness, direction).to(direction) * direction

    def restart(self, rows: Tensor) -> None:
        self._prepare(rows)
        self._boldness = torch.where(rows, self._boldness / 2, self._boldness)
        self._fresh = self._fresh | rows


class Fixed(_Rule):
    """change = -eta r. Source: Ronai et al. 2025, Eq. 6."""

    def change(self, z: Latents, residual: Latents) -> Latents:
        """See ``StepRule``."""
        self._prepare(z)
        return self._along(residual, self.eta)  # (Eq. 6)


class Estimated(_Rule):
    """Fixed, with eta = safety * the smallest bound 2 <dz, dr> / |dr|^2 met so far on the way.

    See docs/flowopt.md: below the bound over all pairs the iteration contracts.
    """

    def __init__(self, eta: float, safety: float = 0.5) -> None:
        """
        Args:
            eta: of the first step, before there is a pair.
            safety: share of the bound to use; pairs on the way overestimate it.
        """
        super().__init__(eta)
        self._safety = safety
        self._bound = torch.zeros(0)

    def change(self, z: Latents, residual: Latents) -> Latents:
        """See ``StepRule``."""
        self._prepare(z)
        if not len(self._bound):
            self._bound = torch.full_like(self._boldness, torch.inf)
        pair = self._differences(z, residual)
        if pair is not None:
            bound = step_bound(*pair)
            self._bound = torch.where(bound > 0, torch.minimum(self._bound, bound), self._bound)
        eta = torch.where(self._bound.isfinite(), self._safety * self._bound, self.eta)
        return self._along(residual, eta)


class BarzilaiBorwein(_Rule):
    """change = -eta r with eta = <dz, dr> / |dr|^2, the inverse curvature along the last step.

    Source: Barzilai & Borwein 1988, their second step size; for equations, La Cruz & Raydan 2003.
    """

    def __init__(self, eta: float, range_: tuple[float, float] = (0.1, 20.0)) -> None:
        """
        Args:
            eta: of the first step.
            range_: least and largest step, in units of ``eta``.
        """
        super().__init__(eta)
        self._range = range_

    def change(self, z: Latents, residual: Latents) -> Latents:
        """See ``StepRule``."""
        self._prepare(z)
        eta = torch.full_like(self._boldness, self.eta)
        pair = self._differences(z, residual)
        if pair is not None:
            found = step_bound(*pair) / 2
            low, high = (self.eta * x for x in self._range)
            eta = torch.where(found > 0, found.clamp(low, high), eta)
        return self._along(residual, eta)


class Anderson(_Rule):
    """Anderson acceleration: the residual is first cancelled as far as the last differences can,
    and the rest takes a step of size eta.

    Source: Anderson 1965; type II in the form of Walker & Ni 2011, with a small ridge. It is a
    quasi-Newton method whose inverse Jacobian maps the last changes of r to those of z (Fang &
    Saad 2009).
    """

    def __init__(self, eta: float, memory: int = 8, ridge: float = 1e-8) -> None:
        """
        Args:
            eta: of the part that the memory does not explain.
            memory: differences kept.
            ridge: of the least squares, in units of the mean squared difference.
        """
        super().__init__(eta)
        at_least("memory", memory, 1)
        self._memory, self._ridge = memory, ridge
        self._dz: list[Tensor] = []
        self._dr: list[Tensor] = []

    def change(self, z: Latents, residual: Latents) -> Latents:
        """See ``StepRule``."""
        self._prepare(z)
        pair = self._differences(z, residual)
        if pair is not None:
            self._dz = [*self._dz, pair[0]][-self._memory :]
            self._dr = [*self._dr, pair[1]][-self._memory :]
        r = residual.double().flatten(1)
        eta = (self.eta * self._boldness)[:, None]
        if not self._dr:
            return (-eta * r).view_as(z).to(z)
        dz, dr = torch.stack(self._dz, 1), torch.stack(self._dr, 1)
        # With -eta r in place of r, changes of z and of what is to vanish are in the same units.
        return cancelled(-eta * r, dz, -eta[:, :, None] * dr, self._ridge).view_as(z).to(z)

    def restart(self, rows: Tensor) -> None:
        """See ``StepRule``."""
        super().restart(rows)
        keep = (~rows).double()[:, None]
        self._dz, self._dr = [x * keep for x in self._dz], [x * keep for x in self._dr]


class Adam(_Rule):
    """Adam that takes the residual for a gradient (Hong et al. 2024, for inverting decoders)."""

    def __init__(self, eta: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        """
        Args:
            eta: the learning rate, in units of the latents.
            betas: decay of the first and second moments.
        """
        super().__init__(eta)
        self._betas, self._count = betas, 0
        self._m = self._v = torch.zeros(0)

    def change(self, z: Latents, residual: Latents) -> Latents:
        """See ``StepRule``."""
        self._prepare(z)
        if not self._count:
            self._m, self._v = torch.zeros_like(residual), torch.zeros_like(residual)
        self._count += 1
        first, second = self._betas
        self._m = first * self._m + (1 - first) * residual
        self._v = second * self._v + (1 - second) * residual.square()
        m, v = self._m / (1 - first**self._count), self._v / (1 - second**self._count)
        return self._along(m / (v.sqrt() + 1e-8), self.eta)


RULES: dict[str, Callable[[float], StepRule]] = {
    "fixed": Fixed,
    "estimated": Estimated,
    "barzilai-borwein": BarzilaiBorwein,
    "anderson": Anderson,
    "adam": Adam,
}
