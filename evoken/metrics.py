"""Measures on finished words: the paper's two scores (4.3) and the judge's share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from evoken.arrays import Images, Vectors
from evoken.judge import Judge
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.prompts import EDITING_PROMPTS, RECONSTRUCTION_PROMPT
from evoken.seeds import derive


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


def pictures_of(
    model: Model, prompt: str, placeholder: str, vectors: Vectors | None, count: int, seed: int,
    steps: int = 25, guidance: float = 5.0,
) -> Images:  # fmt: skip
    """``count`` pictures of one prompt; picture i has the same noise whatever the prompt is."""
    seeds = [derive(seed, i, "picture") for i in range(count)]
    population = None if vectors is None else vectors[None]
    hidden = model.condition([prompt], placeholder, population).expand(count, -1, -1)
    return model.generate(hidden, seeds, steps, guidance)


def pictures_of_each(
    model: Model, prompt: str, placeholder: str, words: Sequence[Vectors], count: int, seed: int
) -> list[Images]:
    """The pictures of ``pictures_of`` for each of several words, drawn together."""
    seeds = [derive(seed, i, "picture") for i in range(count)]
    hidden = model.condition([prompt], placeholder, torch.stack(list(words)))
    drawn = model.generate(hidden.repeat_interleave(count, 0), seeds * len(words))
    return list(drawn.split(count))


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
    placeholder: str,
    vectors: Vectors | None,
    kind: str = "object",
    count: int = 64,
    seed: int = 0,
    judge: Judge | None = None,
    concept: str = "",
    on_prompt: Callable[[str], object] = lambda prompt: None,
) -> Scores:
    """The scores of a word.

    Args:
        vectors: vector x width; ``None`` if ``placeholder`` is an ordinary word.
        count: pictures per prompt.
        concept: what the judge calls the object or style.
        on_prompt: told every sentence before its pictures are drawn.
    """

    def drawn(template: str) -> Images:
        prompt = template.format(placeholder)
        on_prompt(prompt)
        return pictures_of(model, prompt, placeholder, vectors, count, seed)

    pictures = drawn(RECONSTRUCTION_PROMPT[kind])
    edited = {template: drawn(template) for template in EDITING_PROMPTS[kind]}
    share = None
    if judge is not None and concept:
        found = judge.answers(pictures, kind)
        share = Score.of([float(answer == concept) for answer in found])
    return Scores(reconstruction(clip, pictures, images), editability(clip, edited), share)
