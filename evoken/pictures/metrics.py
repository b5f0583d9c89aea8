"""Scores of finished words, each with its interval: what of a concept its pictures show, what of
their sentences, and how much they differ. docs/scores.md says what each is good for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from scipy.special import stdtrit
from torch import Tensor

from evoken.arrays import Images, Masks
from evoken.models.clip import Clip
from evoken.models.image_encoder import ImageEncoder
from evoken.prompts import rest_of

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
COVERED = 0.5  # share of a patch from which on it belongs to the thing


@dataclass(frozen=True)
class Score:
    """A mean or a share with its 95 % interval.

    Attributes:
        value: the mean or the share.
        low, high: ends of the interval.
        n: how many pictures, prompts or draws it is made of; 0 if an older file does not say.
    """

    value: float
    low: float
    high: float
    n: int = 0

    @classmethod
    def of_values(cls, values: Sequence[float], least: float, most: float) -> "Score":
        """Mean of values from ``least`` to ``most`` and its Student t interval, within that; of a
        single value, which has no spread, the interval is all of that.
        """
        n, mean = len(values), fmean(values)
        error = most - least
        if n > 1:
            error = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * stdev(values) / n**0.5
        return cls._within(least, most, mean, mean - error, mean + error, n)

    @classmethod
    def of_cosines(cls, values: Sequence[float]) -> "Score":
        """Mean of values from -1 to 1."""
        return cls.of_values(values, -1.0, 1.0)

    @classmethod
    def of_gain(cls, before: Sequence[float], after: Sequence[float]) -> "Score":
        """By how much a mean loss fell, of losses on the same draws, which are compared in pairs;
        within what losses allow that are never negative.
        """
        falls = [a - b for a, b in zip(before, after, strict=True)]
        return cls.of_values(falls, -fmean(after), fmean(before))

    @classmethod
    def of_hits(cls, hits: Sequence[bool]) -> "Score":
        """Share of hits and its Wilson interval (Wilson 1927), which is within [0, 1] and has a
        width even where all or none are hits.
        """
        return cls.of_share(fmean(hits), len(hits))

    @classmethod
    def of_groups(cls, hits: Sequence[Sequence[bool]]) -> "Score":
        """Share of hits in groups of one size, whose hits are alike: Wilson's interval for as many
        hits as would vary as much if they were independent, fewer by what Student's t is wider
        (Korn & Graubard 1998).
        """
        shares, n = [fmean(group) for group in hits], sum(map(len, hits))
        groups, share = len(shares), fmean(shares)
        if groups == 1:
            return cls.of_share(share, n)
        variance = stdev(shares) ** 2 / groups
        size = min(n, share * (1 - share) / variance) if variance else n
        size *= (Z / float(stdtrit(groups - 1, (1 + CONFIDENCE) / 2))) ** 2
        return replace(cls.of_share(share, size), n=n)

    @classmethod
    def of_share(cls, share: float, n: float) -> "Score":
        """The same as ``of_hits``, of a share of ``n``."""
        center = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
        error = Z / (1 + Z**2 / n) * (share * (1 - share) / n + (Z / (2 * n)) ** 2) ** 0.5
        return cls._within(0.0, 1.0, share, center - error, center + error, round(n))

    @classmethod
    def _within(
        cls, least: float, most: float, value: float, low: float, high: float, n: int
    ) -> "Score":
        """With the interval cut to [least, most], and around the value whatever rounding does."""
        return cls(value, min(value, max(least, low)), max(value, min(most, high)), n)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Score":
        """From what ``dataclasses.asdict`` gave, or from the value and error of older files;
        ``TypeError``, ``ValueError`` or ``KeyError`` for anything else.
        """
        value = float(values["value"])
        if "error" in values:
            error = float(values["error"])
            return cls(value, value - error, value + error)
        return cls(value, float(values["low"]), float(values["high"]), int(values.get("n", 0)))

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 3) -> str:
        """The value and its interval."""
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def concept_score(
    encoder: ImageEncoder, pictures: Images, images: Images, masks: Masks | None
) -> Score:
    """How well the thing in the images is found again in each picture: of every patch of the thing
    the best match among all patches of the picture, mean over patches and images.

    Source: MaSC's concept preservation ("masked max-cosine", arXiv:2605.22469).
    Differs: the encoder is any, by default the CLIP at hand instead of SigLIP 2; several images.

    Args:
        masks: of the images, N x 1 x S x S; None for styles, which all of an image has.
    """
    theirs, known = encoder.patch_features(pictures), encoder.patch_features(images)
    grid = (known.shape[1], known.shape[2])
    its = torch.ones(known.shape[:3], dtype=torch.bool) if masks is None else covered(masks, grid)
    thing = known[its]  # patch x width, of all images
    parts = its.sum((1, 2)).tolist()
    scores = []
    for picture in theirs.flatten(1, 2):
        best = (thing @ picture.T).amax(1)
        scores.append(fmean(float(part.mean()) for part in best.split(parts)))
    return Score.of_cosines(scores)


def prompt_score(
    clip: Clip,
    pictures_by_prompt: Mapping[str, Images],
    masks_by_prompt: Mapping[str, Masks | None],
) -> Score:
    """CLIP similarity of the sentence without its thing to the pictures without theirs, over
    sentences: nothing of the thing itself can raise it.

    Source: MaSC's prompt following ("text-background alignment", arXiv:2605.22469).
    Differs: CLIP in place of SigLIP 2: patches that show the thing are left out of its attention.

    Args:
        pictures_by_prompt: by template with {} for the word.
        masks_by_prompt: where the thing is in them; None where all of a picture counts.
    """
    texts = clip.text_features([rest_of(template) for template in pictures_by_prompt])
    scores = []
    for (template, pictures), text in zip(pictures_by_prompt.items(), texts, strict=True):
        masks = masks_by_prompt[template]
        if masks is None:
            features = clip.image_features(pictures)
        else:
            features = clip.partial_features(pictures, uncovered(masks, (clip.across, clip.across)))
        scores.append(float((features @ text).mean()))
    return Score.of_cosines(scores)


def covered(masks: Masks, grid: tuple[int, int]) -> Tensor:
    """N x row x column: which patches show the thing; at least the one that shows most of it."""
    share = F.adaptive_avg_pool2d(masks, grid)[:, 0]
    return (share >= COVERED) | (share == share.amax((1, 2), keepdim=True))


def uncovered(masks: Masks, grid: tuple[int, int]) -> Tensor:
    """The others; at least the one that shows least of it."""
    return covered(1 - masks, grid)


def diversity(encoder: ImageEncoder, pictures: Images) -> Score:
    """How much pictures of one sentence differ: 1 - cosine of their features, mean over all pairs.
    A word that has learned one picture by heart draws it again and again.

    The interval is that of the jackknife (Tukey 1958): pairs that share a picture are not
    independent. Two pictures are one pair.
    """
    features = encoder.image_features(pictures).double()
    apart = 1 - features @ features.T
    n = len(apart)
    sums = (apart.sum(1) - apart.diagonal()).tolist()  # of the pairs with each picture
    whole = sum(sums) / (n * (n - 1))
    if n < 3:
        return Score.of_values([whole], 0.0, 2.0)
    without = [(sum(sums) - 2 * own) / ((n - 1) * (n - 2)) for own in sums]
    return Score.of_values([n * whole - (n - 1) * rest for rest in without], 0.0, 2.0)


def reconstruction(clip: Clip, pictures: Images, images: Images) -> Score:
    """CLIP-I: mean CLIP similarity of each picture to the images of the concept. For comparison
    with papers alone: of all scores it agrees least with people (MaSC, arXiv:2605.22469).

    Source: Fei et al. 2023, 4.3 (after Gal et al. 2022): average pairwise cosine between 64
    pictures of "A photo of x*" and the training images.
    """
    pairs = clip.image_features(pictures) @ clip.image_features(images).T
    return Score.of_cosines(pairs.mean(1).tolist())


def editability(clip: Clip, pictures_by_prompt: Mapping[str, Images]) -> Score:
    """CLIP-T: CLIP similarity of each prompt to the mean feature of its pictures, over prompts. For
    comparison with papers.

    Source: Fei et al. 2023, 4.3: 64 pictures per prompt, the placeholder left out of the text.

    Args:
        pictures_by_prompt: by template with {} for the word.
    """
    scores = []
    for template, pictures in pictures_by_prompt.items():
        text = " ".join(template.format("").split())
        mean = F.normalize(clip.image_features(pictures).mean(0), dim=0)
        scores.append(float(mean @ clip.text_features([text])[0]))
    return Score.of_cosines(scores)
