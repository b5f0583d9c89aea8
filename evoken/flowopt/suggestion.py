"""Which picture of a strip to take."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from evoken.arrays import Images, Masks
from evoken.models.clip import Clip
from evoken.prompts import without

LEAST_CROP = 0.375  # of the side: a smaller part says too little of a thing


@dataclass(frozen=True)
class Weights:
    """The constants of the rule.

    Attributes:
        source: of the agreement with the source prompt, which counts against a picture.
        whole: of the whole picture's agreements beside those of the part inside the mask.
        outside: of the distance outside the mask, for each level of 255 (RMSE).
    """

    source: float = 1.5
    whole: float = 2.0
    outside: float = 0.01


WEIGHTS = Weights()


@dataclass(frozen=True)
class Scores:
    """How pictures compare with their sources and their targets; N numbers each.

    Attributes:
        agreement: CLIP similarity with the target prompt.
        gain: how much more than the source the picture agrees with the target and less with the
            source prompt, inside the mask, less what is changed outside (see ``Weights``).
    """

    agreement: Tensor
    gain: Tensor


class Scorer:
    """Scores pictures, each with its own source, prompts and mask."""

    def __init__(
        self,
        clip: Clip,
        originals: Images,
        masks: Masks | None,
        sources: Sequence[str],
        targets: Sequence[str],
        placeholders: Iterable[str] = (),
        weights: Weights = WEIGHTS,
        seen: Masks | None = None,
    ) -> None:
        """
        Args:
            originals: N x 3 x H x W.
            masks: N x 1 x H x W; None means everywhere.
            sources: N prompts; "" is left out of the gain.
            targets: N prompts.
            placeholders: of words that CLIP does not know; they are left out of the texts.
            seen: N x 1 x H x W, 0 where an original is drawn out beyond its picture: CLIP sees grey
                there, and nothing else counts; None for nowhere.
        """
        self._clip, self._originals, self._weights = clip, originals, weights
        self._seen = torch.ones_like(originals[:, :1]) if seen is None else seen
        self._masks = self._seen if masks is None else masks * self._seen
        self._boxes = [_crop(mask[0]) for mask in self._masks]
        unknown = list(placeholders)
        texts = [_plain(text, unknown) for text in (*targets, *sources)]
        self._target, self._source = clip.text_features(texts).split(len(targets))
        self._known = torch.tensor([bool(text) for text in texts[len(targets) :]]).double()
        self.before = self._agreements(originals)

    @property
    def source_agreement(self) -> Tensor:
        """N, of the sources themselves with the targets."""
        return self.before[0]

    def __call__(self, images: Images) -> Scores:
        """Of N pictures."""
        w, now = self._weights, self._agreements(images)
        whole, against, inside, inside_against = (
            a - b for a, b in zip(now, self.before, strict=True)
        )
        gain = inside - w.source * self._known * inside_against
        gain = gain + w.whole * (whole - w.source * self._known * against)
        return Scores(now[0], gain - w.outside * self._outside(images))

    def _agreements(self, images: Images) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """N each: of the whole with the target and with the source, and of the part inside."""
        found = []
        images = images * self._seen
        for pictures in (images, self._inside(images)):
            features = self._clip.image_features(pictures)
            found += [(features * texts).sum(1).double() for texts in (self._target, self._source)]
        whole, against, inside, inside_against = found
        return whole, against, inside, inside_against

    def _inside(self, images: Images) -> Images:
        """The squares around the masks, as large as CLIP looks at them."""
        side = self._clip.side
        parts = [
            F.interpolate(
                image[None, :, top : top + size, left : left + size],
                (side, side),
                mode="bicubic",
                antialias=True,
            )
            for image, (top, left, size) in zip(images, self._boxes, strict=True)
        ]
        return torch.cat(parts)

    def _outside(self, images: Images) -> Tensor:
        """RMSE outside the masks, levels of 255."""
        square = (images - self._originals).double().square().mean(1, keepdim=True) * 127.5**2
        share = (self._seen - self._masks).double()
        total = share.sum((1, 2, 3)).clamp(min=1e-9)
        return ((square * share).sum((1, 2, 3)) / total).sqrt()


def suggested(gains: Sequence[float]) -> int:
    """Which of a picture's results to take, by their gains (see ``Scores``): the first of the
    best.
    """
    return max(range(len(gains)), key=lambda i: gains[i])


def _crop(mask: Tensor) -> tuple[int, int, int]:
    """Top, left and side of a square around a mask, H x W, within the picture."""
    height, width = mask.shape
    rows, columns = (mask > 0.5).nonzero(as_tuple=True)
    if not len(rows):
        return 0, 0, min(height, width)
    spans = [(int(found.min()), int(found.max()) + 1) for found in (rows, columns)]
    side = max(*(high - low for low, high in spans), round(LEAST_CROP * min(height, width)))
    side = min(side, height, width)
    top, left = (
        max(0, min((low + high - side) // 2, most - side))
        for (low, high), most in zip(spans, (height, width), strict=True)
    )
    return top, left, side


def _plain(text: str, placeholders: list[str]) -> str:
    """A prompt without words that CLIP does not know."""
    return " ".join(without(text, placeholders).split()) if placeholders else text
