"""Where two pictures differ."""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from evoken.errors import ImageError

FULL = 48.0  # levels of 255 from which a place counts as changed whole
SOFT = 1 / 64  # of the side: over how far a change is smoothed


def changed(before: Image.Image, after: Image.Image) -> Image.Image:
    """Levels of grey, white where a picture was changed: the largest difference of the three
    channels, smoothed.

    Raises:
        ImageError: they are of two sizes.
    """
    if before.size != after.size:
        raise ImageError("the two pictures are of two sizes.")
    one, other = (np.asarray(p.convert("RGB"), dtype=np.float32) for p in (before, after))
    apart = np.abs(one - other).max(axis=2)
    smooth = gaussian_filter(apart, sigma=max(before.size) * SOFT)
    return Image.fromarray((255 * np.clip(smooth / FULL, 0, 1)).round().astype(np.uint8))
