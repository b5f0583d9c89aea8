"""How finished pictures compare with their source and their target, and which one to take."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from evoken.arrays import Images
from evoken.models.clip import Clip
from evoken.prompts import without

KEPT_GAIN = 0.95  # share of the best agreement's gain that a suggested iterate has


class Agreement:
    """CLIP similarity of N pictures with N target prompts, each with its own."""

    def __init__(
        self, clip: Clip, targets: Sequence[str], placeholders: Iterable[str] = ()
    ) -> None:
        """
        Args:
            placeholders: of words that CLIP does not know; they are left out of the texts.
        """
        unknown = list(placeholders)
        plain = [" ".join(without(t, unknown).split()) for t in targets]
        self._clip = clip
        self._texts = clip.text_features(plain if unknown else list(targets))

    def __call__(self, images: Images) -> Tensor:
        """N numbers, at most 1."""
        return (self._clip.image_features(images) * self._texts).sum(1).double()


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


def suggested(
    agreements: Sequence[float], source: float, patience: int = 0, keep: float = KEPT_GAIN
) -> int:
    """Which iterate of a picture to take: the last one, so the nearest to the source, that keeps a
    share of the best iterate's gain in agreement over the source. Without any gain, the best.

    Args:
        agreements: of the iterates, in their order.
        source: of the source itself.
        patience: of the settings.
    """
    last = last_counted(agreements, patience)
    counted = agreements if last is None else agreements[: last + 1]
    best = max(counted)
    least = min(best, source + keep * (best - source))
    return max(i for i, value in enumerate(counted) if value >= least)


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
