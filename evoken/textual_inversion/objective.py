"""How good a candidate word is, by forward passes alone.

All candidates of a generation see the same draws (common random numbers): the same images,
sentences, noise levels and noise. Without that, differences of losses are mostly luck.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evoken.arrays import Hidden, Images, Latents, Losses, NoiseLevels, Vectors
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.seeds import derive, numpy_generator, torch_generator


@dataclass(frozen=True)
class Draws:
    """The random numbers shared by all candidates of a generation; n draws.

    Attributes:
        image: n indices of images.
        sentence: n indices into ``sentences``.
        sentences: templates with {} where the word goes.
        t: n noise levels.
        noise: n x C x h x w.
    """

    image: Tensor
    sentence: Tensor
    sentences: tuple[str, ...]
    t: NoiseLevels
    noise: Latents


@dataclass(frozen=True)
class Evaluation:
    """What one generation's forward passes tell.

    Attributes:
        losses: candidate.
        gram: candidate x candidate inner products, mean over draws and components, of the residuals
            r_0, r_1 - r_0, r_2 - r_0, ...; ``None`` where the objective is no sum of squares or the
            search did not ask. With finite differences along k directions it holds J'J and J'r.
    """

    losses: Losses
    gram: NDArray[np.float64] | None = None


class Objective(Protocol):
    """A loss for each candidate of a population."""

    def evaluate(self, vectors: Vectors, generation: int, gram: bool = False) -> Evaluation:
        """Losses of candidate x vector x width on the draws of a generation."""

    def validate(self, vectors: Vectors) -> float:
        """Loss of one word, vector x width, on fixed draws that no candidate is fitted to."""


def draw(
    seed: int,
    generation: int,
    purpose: str,
    count: int,
    latents: Latents,
    templates: Sequence[str],
    t_range: tuple[float, float],
    sentences: int,
) -> Draws:
    """Draw n = ``count``: noise levels stratified over the range, images in equal shares, a few
    sentences (each costs a pass of the text encoder per candidate).
    """
    rng = numpy_generator(seed, generation, purpose)
    low, high = t_range
    strata = (np.arange(count) + rng.random(count)) / count
    t = torch.from_numpy(low + (high - low) * rng.permutation(strata)).float()
    image = torch.from_numpy(rng.permutation(np.arange(count) % len(latents)))
    few = min(sentences, count, len(templates))
    chosen = rng.choice(len(templates), few, replace=False)
    sentence = torch.from_numpy(rng.permutation(np.arange(count) % few))
    shape = (count, *latents.shape[1:])
    noise = torch.randn(shape, generator=torch_generator(seed, generation, f"{purpose} noise"))
    return Draws(image, sentence, tuple(templates[i] for i in chosen), t, noise)


class DenoisingLoss:
    """Mean squared error of the prediction at noised latents of the images.

    Source: Fei et al. 2023, Eq. 1. Differs: t from a range instead of (0, 1), where the words
    matter most; random numbers shared by candidates (the paper shares t alone); each draw's error
    taken in shares of what is common at its t ("relative"). Where the noise is low the error is ten
    times as large as where a picture's shape is decided, and no word can help it: weights of one
    over the variance are those of generalised least squares (Aitken 1936).
    """

    def __init__(
        self,
        model: Model,
        images: Images,
        placeholder: str,
        templates: Sequence[str],
        seed: int,
        draws: int = 16,
        sentences: int = 4,
        t_range: tuple[float, float] = (0.0, 1.0),
        validation_draws: int = 64,
        shared_draws: bool = True,
        weighting: str = "uniform",
    ) -> None:
        """
        Args:
            images: N x 3 x S x S.
            placeholder, templates: the sentences that the images are explained by.
            draws, sentences: per generation, and different sentences among them.
            t_range: of the noise levels.
            validation_draws: fixed draws of ``validate``.
            shared_draws: the same random numbers for all candidates.
            weighting: "uniform" (Eq. 1), or "relative": each draw's error is divided by what the
                model errs at its noise level without a prompt.
        """
        self.model, self.placeholder, self.templates = model, placeholder, templates
        self.latents = model.encode(images)
        self.seed, self.draws, self.sentences, self.t_range = seed, draws, sentences, t_range
        self.shared_draws, self.weighting = shared_draws, weighting
        self._validation = self._draw(0, "validation", validation_draws)
        self._log_error = self._fit_log_error() if weighting == "relative" else np.zeros(1)

    def _fit_log_error(self) -> NDArray[np.float64]:
        """A cubic polynomial in t: the logarithm of the error without a prompt, on the validation
        draws.
        """
        draws = self._validation
        errors = (
            self._predict(self.model.condition([""]), draws, 1)[0].double().square().mean((1, 2, 3))
        )
        degree = min(3, len(draws.t) - 1)
        return np.polyfit(draws.t.double().numpy(), errors.log().numpy(), degree)

    def _weights(self, t: NoiseLevels) -> Tensor:
        return torch.from_numpy(np.exp(-np.polyval(self._log_error, t.double().numpy())))

    def _draw(self, generation: int, purpose: str, count: int) -> Draws:
        return draw(self.seed, generation, purpose, count, self.latents, self.templates,
                    self.t_range, self.sentences)  # fmt: skip

    def evaluate(self, vectors: Vectors, generation: int, gram: bool = False) -> Evaluation:
        if self.shared_draws:
            residuals = self._weighted(vectors, self._draw(generation, "draws", self.draws))
        else:
            own = [self._draw(generation, f"draws {i}", self.draws) for i in range(len(vectors))]
            residuals = torch.cat(
                [self._weighted(v[None], d) for v, d in zip(vectors, own, strict=True)]
            )
        flat = residuals.flatten(1)
        losses = flat.square().mean(1)
        products = None
        if gram:
            relative = torch.cat([flat[:1], flat[1:] - flat[:1]])
            products = (relative @ relative.T / flat.shape[1]).numpy()
        return Evaluation(losses.numpy(), products)

    def validate(self, vectors: Vectors) -> float:
        return float(self._weighted(vectors[None], self._validation).square().mean())

    def _weighted(self, vectors: Vectors, draws: Draws) -> Tensor:
        """The residuals in double precision, times the roots of their draws' weights."""
        scales = self._weights(draws.t).sqrt()[:, None, None, None]
        return self.residuals(vectors, draws).double() * scales

    def residuals(self, vectors: Vectors, draws: Draws) -> Tensor:
        """Candidate x draw x C x h x w: prediction - target, the vector behind the loss."""
        sentences = [s.format(self.placeholder) for s in draws.sentences]
        hidden = self.model.condition(sentences, self.placeholder, vectors)
        rows = torch.arange(len(vectors))[:, None] * len(sentences) + draws.sentence
        return self._predict(hidden[rows.flatten()], draws, len(vectors))

    def _predict(self, hidden: Hidden, draws: Draws, candidates: int) -> Tensor:
        """Residuals of candidate * draw conditions, or of one condition for everything."""
        count = len(draws.t)
        clean = self.latents[draws.image]
        noisy = self.model.process.add_noise(clean, draws.noise, draws.t)
        target = self.model.process.target(clean, draws.noise, draws.t)
        predicted = self.model.denoise(
            noisy.repeat(candidates, 1, 1, 1),
            draws.t.repeat(candidates),
            hidden.expand(candidates * count, -1, -1),
        )
        return (predicted.unflatten(0, (candidates, count)) - target).cpu()


class ImageSimilarity:
    """One minus the mean CLIP similarity between fully generated pictures and the images.

    Source: the stored summary of the paper, which names this objective instead of Eq. 1; kept as
    the second implementation of the same concept. Every evaluation is a whole generation.
    """

    def __init__(
        self,
        model: Model,
        images: Images,
        placeholder: str,
        templates: Sequence[str],
        seed: int,
        clip: Clip,
        pictures: int = 2,
        steps: int = 10,
        guidance: float = 5.0,
        validation_pictures: int = 8,
    ) -> None:
        self.model, self.placeholder, self.templates = model, placeholder, templates
        self.seed, self.clip, self.pictures = seed, clip, pictures
        self.steps, self.guidance = steps, guidance
        self.validation_pictures = validation_pictures
        self._features = clip.image_features(images)

    def evaluate(self, vectors: Vectors, generation: int, gram: bool = False) -> Evaluation:
        return Evaluation(self._losses(vectors, generation, "draws", self.pictures).numpy())

    def validate(self, vectors: Vectors) -> float:
        return float(self._losses(vectors[None], 0, "validation", self.validation_pictures)[0])

    def _losses(self, vectors: Vectors, generation: int, purpose: str, pictures: int) -> Tensor:
        rng = numpy_generator(self.seed, generation, purpose)
        sentence = str(rng.choice(list(self.templates))).format(self.placeholder)
        seeds = [derive(self.seed, generation, f"{purpose} picture {i}") for i in range(pictures)]
        hidden = self.model.condition([sentence], self.placeholder, vectors)
        images = self.model.generate(
            hidden.repeat_interleave(pictures, 0), seeds * len(vectors), self.steps, self.guidance
        )
        features = self.clip.image_features(images.cpu()).double().split(pictures)
        return 1 - torch.stack([(f @ self._features.double().T).mean() for f in features])
