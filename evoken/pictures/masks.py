"""Where the thing is in a picture that has no mask: what is unlike the picture's border."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes, binary_opening, label
from scipy.spatial import KDTree
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu

from evoken.arrays import Images, Masks

SIDE = 64  # px; masks are found in pictures of at most this size
BORDER = 1 / 16  # of the side
SHARE = 0.04  # of the border's pixels; a colour that fewer have is no background
HEIGHT = 30.0  # how far apart in Lab the upper and the lower edge count as, in their own right
LEAST = 12.0  # distance in Lab below which nothing is unlike the border
SPECK = 0.1  # of the largest part; smaller ones are no part of the thing
EXTENT = (0.02, 0.95)  # of the picture, that a thing may cover
CENTRAL = 0.2  # of the side; how far from the middle of the picture a thing's may be
CLOSED = 2  # px; wide gaps between the parts of a thing belong to it


def found_masks(images: Images) -> Masks:
    """N x 1 x S x S in {0, 1}, of N x 3 x S x S in [-1, 1]: 1 where a pixel's colour, and height in
    the picture, are far from those of the border. All of a picture where nothing is, or all.

    A picture's border mostly shows what is behind the thing, and colours there change with the
    height: sky, sea, sand. Of the distances of a pixel to the border's pixels the one counts that
    ``SHARE`` of them are below, so that a thing that reaches the border is no background; the limit
    is Otsu's (1979).
    """
    small = images if images.shape[-1] <= SIDE else F.adaptive_avg_pool2d(images, SIDE)
    colours = rgb2lab(((small.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).double().numpy())
    masks = torch.from_numpy(np.stack([_found(one) for one in colours]))[:, None].float()
    return F.interpolate(masks, images.shape[-2:])  # by the nearest


def _found(colours: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of one picture, H x W x 3 in Lab."""
    height, width = colours.shape[:2]
    rows = np.broadcast_to(np.linspace(0, HEIGHT, height)[:, None, None], (height, width, 1))
    pixels = np.concatenate([colours, rows], 2)
    edge = max(1, round(BORDER * height))
    border = np.ones((height, width), bool)
    border[edge:-edge, edge:-edge] = False
    behind = pixels[border]
    nth = 1 + int(SHARE * len(behind))
    distance = KDTree(behind).query(pixels.reshape(-1, 4), [nth])[0].reshape(height, width)
    mask = distance > max(LEAST, threshold_otsu(distance))
    mask = binary_closing(np.pad(binary_opening(mask), CLOSED), iterations=CLOSED)
    mask = binary_fill_holes(mask[CLOSED:-CLOSED, CLOSED:-CLOSED])
    parts, count = label(mask)
    if count:
        sizes = np.bincount(parts.flat)[1:]
        mask = np.isin(parts, 1 + np.flatnonzero(sizes >= SPECK * sizes.max()))
    if not EXTENT[0] < mask.mean() < EXTENT[1]:
        return np.ones_like(mask)
    middle = np.argwhere(mask).mean(0) / (height, width)
    return mask if (abs(middle - 0.5) < CENTRAL).all() else np.ones_like(mask)
