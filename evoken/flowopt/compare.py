"""How finished pictures compare with their sources, and when no better one is to be expected."""

from collections.abc import Sequence

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from evoken.arrays import Images


def last_counted(agreements: Sequence[float], patience: int) -> int | None:
    """Which of a picture's iterates is the last that counts, ``patience`` after the best; ``None``
    while none is. Other pictures of a batch may keep the run going for longer.
    """
    best = 0
    for i, value in enumerate(agreements):
        if value > agreements[best]:
            best = i
        if patience and i - best >= patience:
            return i
    return None


def measures(sources: Images, images: Images) -> tuple[Tensor, Tensor, Tensor]:
    """RMSE (pixel range 0 to 255), PSNR in dB and SSIM of every picture."""
    square = (images - sources).double().flatten(1).square().mean(1) * 127.5**2
    pairs = zip(images.numpy(), sources.numpy(), strict=True)
    ssim = torch.tensor([_ssim(a, b) for a, b in pairs])
    return square.sqrt(), 10 * torch.log10(255**2 / square.clamp(min=1e-9)), ssim


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    """With the Gaussian window of Wang et al. 2004."""
    return float(
        structural_similarity(
            a,
            b,
            channel_axis=0,
            data_range=2.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
