"""How finished pictures compare with their sources, and when no better one is to be expected."""

from collections.abc import Sequence

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from evoken.arrays import Images, Masks

SIGMA = 1.5  # px, of the window of SSIM
REACH = 5  # px, of the window to either side: 3.5 times that


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


def measures(
    sources: Images, images: Images, seen: Masks | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """RMSE (pixel range 0 to 255), PSNR in dB and SSIM of every picture.

    Args:
        seen: N x 1 x H x W, 0 where an image is drawn out beyond its picture, which does not count;
            None for nowhere.
    """
    seen = torch.ones_like(sources[:, :1]) if seen is None else seen
    error = (images - sources).double().square().mean(1, keepdim=True) * 127.5**2
    square = (error * seen).sum((1, 2, 3)) / seen.double().sum((1, 2, 3))
    rows = zip(images.numpy(), sources.numpy(), seen[:, 0].numpy(), strict=True)
    ssim = torch.tensor([_ssim(*row) for row in rows])
    return square.sqrt(), 10 * torch.log10(255**2 / square.clamp(min=1e-9)), ssim


def _ssim(a: np.ndarray, b: np.ndarray, seen: np.ndarray) -> float:
    """With the Gaussian window of Wang et al. 2004; the mean over all windows within the images
    whose middle is seen.
    """
    _, found = structural_similarity(
        a,
        b,
        channel_axis=0,
        data_range=2.0,
        gaussian_weights=True,
        sigma=SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    weights = np.zeros(seen.shape)
    inner = (slice(REACH, -REACH),) * 2
    weights[inner] = seen[inner]
    return float(np.average(found.mean(0, dtype=np.float64), weights=weights))
