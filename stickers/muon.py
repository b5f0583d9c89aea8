"""Muon (Jordan et al. 2024): momentum, made orthogonal, for weight matrices and convolutions.

``torch.optim.Muon`` takes matrices only; most weights here are convolutions, which are matrices of
output channels by everything else. Gains, biases, embeddings and what is narrow go to AdamW.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration
NESTEROV = 0.95


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.bfloat16)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).float()


def is_matrix(name: str, weight: Tensor) -> bool:
    """Whether Muon takes this weight."""
    if weight.ndim < 2 or "embed" in name:
        return False
    rows, columns = weight.shape[0], weight[0].numel()
    return min(rows, columns) >= 16


class Muon(torch.optim.Optimizer):
    """The matrices' part; the update has AdamW's usual size (Liu et al. 2025), so one learning rate
    serves both.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum: Tensor = state["momentum"]
                momentum.lerp_(weight.grad, 1 - NESTEROV)
                look_ahead = weight.grad.lerp(momentum, NESTEROV).flatten(1)
                update = orthogonalize(look_ahead).view_as(weight)
                size = 0.2 * max(look_ahead.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * size)
