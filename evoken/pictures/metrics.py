"""Measures on finished words: the paper's two scores (4.3) and the judge's share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from evoken.arrays import Images
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.models.judge import Judge
from evoken.pictures.drawing import images_of
from evoken.prompts import KINDS
from evoken.words.word import Word


@dataclass(frozen=True)
class Score:
    """A mean with the half-width of its 95 % interval (normal, over pictures or prompts)."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Score":
        """Mean and 1.96 standard errors."""
        tensor = torch.tensor(values, dtype=torch.float64)
        spread = float(tensor.std()) if len(values) > 1 else 0.0
        return cls(float(tensor.mean()), 1.96 * spread / len(values) ** 0.5)

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}"


def reconstruction(clip: Clip, pictures: Images, images: Images) -> Score:
    """Mean CLIP similarity of each picture to the images of the concept.

    Source: Fei et al. 2023, 4.3 (after Gal et al. 2022): average pairwise cosine between 64
    pictures of "A photo of x*" and the training images.
    """
    pairs = clip.image_features(pictures) @ clip.image_features(images).T
    return Score.of(pairs.mean(1).tolist())


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
    return Score.of(scores)


@dataclass(frozen=True)
class Scores:
    """What ``evaluate`` measures; ``judge`` is ``None`` if the judge was not asked."""

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
    """The scores of a word.

    Args:
        word: a learned one, or an ordinary word of the model's.
        count: pictures per prompt.
        concept: what the judge calls the object or style.
        on_prompt: told every sentence before its pictures are drawn.
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
        share = Score.of([float(answer == concept) for answer in found])
    return Scores(reconstruction(clip, pictures, images), editability(clip, edited), share)
