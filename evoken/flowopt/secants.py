"""What changes of z and of the residual tell about the Jacobian between them."""

import torch
from torch import Tensor

TINY = 1e-20


def step_bound(dz: Tensor, dr: Tensor) -> Tensor:
    """2 <dz, dr> / |dr|^2 of each row, N x D to N; 0 where dr is none.

    The update brings two points closer exactly when eta is below this (docs/flowopt.md).
    """
    square = dr.square().sum(1)
    return torch.where(square > TINY, 2 * (dz * dr).sum(1) / square.clamp(min=TINY), 0.0)


def cancelled(gap: Tensor, dz: Tensor, dgap: Tensor, ridge: float = 1e-9) -> Tensor:
    """Anderson's step to where ``gap`` vanishes, N x D: first as far as earlier changes ``dz``
    (N x memory x D) are known to change the gap by ``dgap``, and for the rest the gap itself.
    """
    gram = dgap @ dgap.mT
    scale = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + TINY
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram + ridge * scale * eye, dgap @ gap[:, :, None])
    return gap - ((dz + dgap).mT @ weights)[:, :, 0]
