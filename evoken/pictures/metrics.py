"""Measures on finished words: the paper's two scores (4.3) and the judge's share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any

import torch.nn.functional as F
from scipy.special import stdtrit

from evoken.arrays import Images
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.models.judge import Judge
from evoken.pictures.drawing import images_of
from evoken.prompts import KINDS
from evoken.words.word import Word

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Score:
    """A mean or a share with its 95 % interval.

    Attributes:
        value: the mean or the share.
        low, high: ends of the interval.
        n: how many pictures or prompts it is made of; 0 if an older file does not say.
    """

    value: float
    low: float
    high: float
    n: int = 0

    @classmethod
    def of_cosines(cls, values: Sequence[float]) -> "Score":
        """Mean of cosines and its Student t interval, within [-1, 1]; of a single value, which has
        no spread, the interval is all of that.
        """
        n, mean = len(values), fmean(values)
        error = 2.0  # the whole range
        if n > 1:
            error = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * stdev(values) / n**0.5
        return cls._within(-1.0, mean, mean - error, mean + error, n)

    @classmethod
    def of_hits(cls, hits: Sequence[bool]) -> "Score":
        """Share of hits and its Wilson interval (Wilson 1927), which is within [0, 1] and has a
        width even where all or none are hits.
        """
        n, share = len(hits), fmean(hits)
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
        center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        error = z / (1 + z**2 / n) * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5
        return cls._within(0.0, share, center - error, center + error, n)

    @classmethod
    def _within(cls, least: float, value: float, low: float, high: float, n: int) -> "Score":
        """With the interval cut to [least, 1], and around the value whatever rounding does."""
        return cls(value, min(value, max(least, low)), max(value, min(1.0, high)), n)

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
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def reconstruction(clip: Clip, pictures: Images, images: Images) -> Score:
    """Mean CLIP similarity of each picture to the images of the concept.

    Source: Fei et al. 2023, 4.3 (after Gal et al. 2022): average pairwise cosine between 64
    pictures of "A photo of x*" and the training images.
    """
    pairs = clip.image_features(pictures) @ clip.image_features(images).T
    return Score.of_cosines(pairs.mean(1).tolist())


def editability(clip: Clip, pictures_by_prompt: dict[str, Images]) -> Score:
    """CLIP similarity of each prompt to the mean feature of its pictures, over prompts.

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


@dataclass(frozen=True)
class Scores:
    """What ``evaluate`` measures; ``judge`` is ``None`` without a judge."""

    reconstruction: Score
    editability: Score
    judge: Score | None


def evaluate(
    model: Model,
    clip: Clip,
    images: Images,
    word: Word | str,
    kind: str = "object",
    count: int = 64,
    seed: int = 0,
    judge: Judge | None = None,
    concept: str = "",
    on_prompt: Callable[[str], object] = lambda prompt: None,
) -> Scores:
    """Draw pictures of a word and score them.

    Args:
        word: a learned word, or an ordinary word.
        count: pictures per prompt.
        concept: what the judge calls the object or style.
        on_prompt: called with every prompt before its pictures are drawn.
    """

    def drawn(template: str) -> Images:
        learned = word if isinstance(word, Word) else None
        prompt = template.format(learned.placeholder if learned else word)
        on_prompt(prompt)
        return images_of(model, prompt, learned, count, seed)

    pictures = drawn(KINDS[kind].plain)
    edited = {template: drawn(template) for template in KINDS[kind].edits}
    share = None
    if judge is not None and concept:
        found = judge.answers(pictures, kind)
        share = Score.of_hits([answer == concept for answer in found])
    return Scores(reconstruction(clip, pictures, images), editability(clip, edited), share)
