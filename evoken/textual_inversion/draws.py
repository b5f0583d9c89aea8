"""The random numbers that all candidates of a generation share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evoken.arrays import Latents, NoiseLevels
from evoken.seeds import numpy_generator, torch_generator


@dataclass(frozen=True)
class Draws:
    """The random numbers shared by all candidates of a generation; n draws, ordered by sentence.

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

    def some(self, start: int, stop: int) -> "Draws":
        """Draws ``start`` to ``stop``, and only the sentences that occur in them."""
        used, sentence = self.sentence[start:stop].unique(return_inverse=True)
        sentences = tuple(self.sentences[i] for i in used.tolist())
        part = slice(start, stop)
        return Draws(self.image[part], sentence, sentences, self.t[part], self.noise[part])


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
    sentences (each costs a pass of the text encoder per candidate; a chunk should need few).
    """
    rng = numpy_generator(seed, generation, purpose)
    low, high = t_range
    strata = (np.arange(count) + rng.random(count)) / count
    t = torch.from_numpy(low + (high - low) * rng.permutation(strata)).float()
    image = torch.from_numpy(rng.permutation(np.arange(count) % len(latents)))
    few = min(sentences, count, len(templates))
    chosen = rng.choice(len(templates), few, replace=False)
    sentence, order = torch.from_numpy(rng.permutation(np.arange(count) % few)).sort(stable=True)
    shape = (count, *latents.shape[1:])
    noise = torch.randn(shape, generator=torch_generator(seed, generation, f"{purpose} noise"))
    sentences_drawn = tuple(templates[i] for i in chosen)
    return Draws(image[order], sentence, sentences_drawn, t[order], noise[order])


def captioned(draws: Draws, captions: Sequence[str]) -> Draws:
    """The draws with the caption of their image for a sentence, where it has one.

    Args:
        captions: a template for each image, "" where it has none.
    """
    # The drawn sentences come first, all of them (a style's templates hold two twice), so that
    # their numbers are as they were drawn.
    its = [c for c in dict.fromkeys(captions) if c and c not in draws.sentences]
    texts = [*draws.sentences, *its]
    own = torch.tensor([texts.index(c) if c else -1 for c in captions])[draws.image]
    sentence, order = torch.where(own < 0, draws.sentence, own).sort(stable=True)
    used, sentence = sentence.unique(return_inverse=True)
    return Draws(
        draws.image[order],
        sentence,
        tuple(texts[i] for i in used.tolist()),
        draws.t[order],
        draws.noise[order],
    )
