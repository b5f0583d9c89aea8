"""Networks that look at pictures, whole and patch by patch: what scores are made of."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from evoken.arrays import Images, PathLike
from evoken.errors import EvokenError, ModelError, reason_of, shown
from evoken.models.batches import in_batches
from evoken.models.contents import read_json
from evoken.models.entries import check_entries
from evoken.models.folder import check_encoder_folder, check_holds_all
from evoken.models.sound import check_finite

BATCH = 64
SIDE = 224  # px, about; of pictures for networks that take any size


class ImageEncoder(Protocol):
    """What scores ask of a network."""

    def image_features(self, images: Images) -> Tensor:
        """N x width, of unit length, of images of any size in [-1, 1]."""

    def patch_features(self, images: Images) -> Tensor:
        """N x row x column x width, of unit length: of the squares that an image is read in."""


class Kind(NamedTuple):
    """How a class of transformers is read.

    Attributes:
        before: tokens before those of the patches, besides registers.
        mean, std: of pixels in [0, 1], where the folder does not say.
        tower: whether the network for pictures is but a part of the model.
        sized: whether it takes pictures of one size.
        packed: whether it takes patches in place of pictures.
        options: for loading it.
    """

    before: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tower: bool = False
    sized: bool = False
    packed: bool = False
    options: Mapping[str, Any] = {}


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5,) * 3, (0.5,) * 3)
# By model_type. DreamSim's networks are of the class vit, as are DINO's.
KINDS = {
    "dinov2": Kind(1, *IMAGENET),
    "dinov2_with_registers": Kind(1, *IMAGENET),
    "dinov3_vit": Kind(1, *IMAGENET),
    "siglip": Kind(0, *HALF, tower=True, sized=True),
    "siglip_vision_model": Kind(0, *HALF, sized=True),
    "siglip2": Kind(0, *HALF, tower=True, sized=True, packed=True),
    "siglip2_vision_model": Kind(0, *HALF, sized=True, packed=True),
    "clip": Kind(1, *CLIP, tower=True, sized=True),
    "clip_vision_model": Kind(1, *CLIP, sized=True),
    "vit": Kind(1, *IMAGENET, sized=True, options={"add_pooling_layer": False}),
}


class Scorer:
    """A frozen network of a user's folder.

    Attributes:
        side: of the pictures that it looks at, in pixels.
    """

    def __init__(self, vision: Any, kind: Kind, pixels: Mapping[str, Sequence[float]]) -> None:
        """
        Args:
            vision: the network for pictures, of a class in ``KINDS``.
            pixels: "mean" and "std" of each channel, of values in [0, 1].
        """
        config = vision.config
        self._vision, self._kind = vision.eval().requires_grad_(False), kind
        self._patch = int(config.patch_size)
        self._before = kind.before + int(getattr(config, "num_register_tokens", 0))
        if kind.packed:
            self._across = math.isqrt(int(config.num_patches))
        else:
            side = int(config.image_size) if kind.sized else SIDE
            self._across = max(1, side // self._patch)
        # Of a picture of its one size, a network may leave a rest that makes no patch.
        whole = self._across * self._patch
        self.side = int(config.image_size) if kind.sized and not kind.packed else whole
        self._mean, self._std = (torch.tensor(pixels[k])[:, None, None] for k in ("mean", "std"))

    @classmethod
    def load(cls, folder: PathLike, device: str = "cpu") -> "Scorer":
        """From a folder of transformers with weights in safetensors; no code in it is run.

        Raises:
            ModelError: it is none, of a kind that is not known here, or damaged.
        """
        path = Path(folder)
        try:
            kind = kind_of(path)
            check_encoder_folder(path)
            check_entries(path / "config.json", "transformers", "")
            from evoken.libraries import transformers

            model = transformers.AutoModel.from_pretrained(
                path,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                **kind.options,
            )
            check_holds_all(path, model)
            check_finite(model, f"scorer {shown(path)}")
            vision = model.vision_model if kind.tower else model
            return cls(vision.float().to(device), kind, _pixels(path, kind))
        except EvokenError:
            raise
        except Exception as error:  # of what kind depends on where the libraries stumble
            raise ModelError(
                f"could not load a scorer from {shown(path)}: {reason_of(error)}.",
                "Copy or download it again, with all of its files.",
            ) from error

    def image_features(self, images: Images) -> Tensor:
        """N x width, of unit length, of images of any size in [-1, 1]."""
        return in_batches(lambda part: self._looked(part)[0], BATCH, images)

    def patch_features(self, images: Images) -> Tensor:
        """N x row x column x width, of unit length."""
        return in_batches(lambda part: self._looked(part)[1], BATCH, images)

    @torch.no_grad()
    def _looked(self, images: Images) -> tuple[Tensor, Tensor]:
        """Both kinds of features."""
        pixels = pixels_of(images, self.side, self._mean, self._std).to(self._vision.device)
        found = self._vision(
            **(self._packed(pixels) if self._kind.packed else {"pixel_values": pixels})
        )
        hidden = found.last_hidden_state
        pooled = getattr(found, "pooler_output", None)
        pooled = hidden[:, 0] if pooled is None else pooled
        patches = hidden[:, self._before :].unflatten(1, (self._across, self._across))
        return F.normalize(pooled, dim=-1).cpu(), F.normalize(patches, dim=-1).cpu()

    def _packed(self, pixels: Tensor) -> dict[str, Tensor]:
        """As SigLIP 2's NaFlex networks take pictures: N x patch x (row * column * channel)."""
        patch, count, across = self._patch, len(pixels), self._across
        squares = pixels.unflatten(2, (across, patch)).unflatten(4, (across, patch))
        rows = squares.permute(0, 2, 4, 3, 5, 1).reshape(count, across**2, -1)
        return {
            "pixel_values": rows,
            "pixel_attention_mask": torch.ones(
                count, across**2, dtype=torch.int32, device=rows.device
            ),
            "spatial_shapes": torch.full((count, 2), across),
        }


def pixels_of(images: Images, side: int, mean: Tensor, std: Tensor) -> Tensor:
    """N x 3 x side x side, as a network reads them, of images of any size in [-1, 1].

    Args:
        mean, std: of each channel, 3 x 1 x 1, of values in [0, 1].
    """
    if images.shape[-2:] != (side, side):
        images = F.interpolate(images, (side, side), mode="bicubic", antialias=True)
    return ((images.clamp(-1, 1) + 1) / 2 - mean) / std


def kind_of(folder: Path) -> Kind:
    """How the network of a folder is read; raises ``ModelError`` if that is not known."""
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            f"`scorer` must be a folder of transformers, with config.json and weights in "
            f"safetensors (got {shown(folder)}).",
            "Check the path.",
        )
    name = read_json(config).get("model_type")
    if not isinstance(name, str) or name not in KINDS:
        raise ModelError(
            f"`scorer` must be of one of the kinds {', '.join(KINDS)} (got {shown(name)}).",
            "Give the folder of a DINOv2, DINOv3, SigLIP, CLIP or ViT model.",
        )
    return KINDS[name]


def _pixels(folder: Path, kind: Kind) -> dict[str, Sequence[float]]:
    """The mean and the deviation of pixels that the network was trained with."""
    file = folder / "preprocessor_config.json"
    said = read_json(file) if file.is_file() else {}
    return {
        "mean": _numbers(file, said, "image_mean", kind.mean),
        "std": _numbers(file, said, "image_std", kind.std),
    }


def _numbers(
    file: Path, said: Mapping[str, Any], name: str, default: Sequence[float]
) -> Sequence[float]:
    """One for each channel; deviations are above zero."""
    values = said.get(name, default)
    if isinstance(values, list | tuple) and len(values) == 3:
        found = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
        if len(found) == 3 and (name == "image_mean" or min(found) > 0):
            return found
    raise ModelError(
        f"{name} in {shown(file)} must be three numbers (got {shown(values)}).",
        "Use another copy of the model.",
    )
