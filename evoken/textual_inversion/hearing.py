"""What of a word is heard, its length and its directions: what changes that which the denoiser
reads, by passes of the text encoder alone.
"""

import numpy as np
import torch
import torch.nn.functional as F

from evoken.arrays import Coords
from evoken.evaluation.chunks import ranges
from evoken.models.base import Model
from evoken.models.batches import MOST
from evoken.seeds import torch_generator
from evoken.textual_inversion.initialization import typical_norm
from evoken.textual_inversion.subspace import Subspace

# Dimensions from which on a run listens to every model. With 12,000 calls it measures 660
# directions with the denoiser; where a word has fewer, it gets to all of them by itself.
WIDE = 660
SKETCHED = 512  # directions of a sketch
# Of the vocabulary's spread: shorter than the search's own differences, because what bends along an
# axis looks like something heard, and longer than the rounding of half precision.
DIFFERENCE = 0.1
# Of the Jacobian's singular values: 1 draws directions as often as they are heard, 0 all alike.
POWER = 0.5
# A word so many times as long as others, and one ten times as long as that: what reads only their
# direction reads the same, and what hears their length is moved ten times as far. Shorter ones
# would move little, beside what their direction changes in a deep encoder.
LONG, LONGER = 1_000.0, 10_000.0
GROWTH = 3.0


def hears_length(model: Model, placeholder: str) -> bool:
    """Whether what the denoiser reads of a long word grows with the word."""
    vocabulary = model.vocabulary()
    middle = vocabulary.vectors[len(vocabulary.words) // 2]
    word = typical_norm(middle[None], vocabulary)
    words = torch.stack([word, LONG * word, LONGER * word])
    read = model.condition([placeholder], {placeholder: words}).cpu().double()
    # Of all tokens the one that moves farthest: the others only hear of the word.
    long, longer = (read[1:] - read[0]).norm(dim=2).amax(1).tolist()
    # Numbers that are not finite may have grown; short steps are the cautious choice.
    return not longer <= GROWTH * long


def heard_directions(
    model: Model, subspace: Subspace, sentence: str, placeholder: str, seed: int
) -> Coords:
    """SKETCHED x dimension: directions whose random combinations are those along which a word is
    heard at the subspace's origin.

    Combinations with normal weights have the covariance (J'J)^POWER: J is the Jacobian of what the
    denoiser reads of the sentence, by finite differences along each axis of coords. It has millions
    of rows, so a random sketch S of them is kept, and S J has J's leading directions.

    Args:
        sentence: with the placeholder in it.

    The root of S J (S J)' is its symmetric one. Then no direction depends on the signs of
    eigenvectors, or on the bases of equal eigenvalues, which every machine's LAPACK has its own of.

    Readings that are not finite count as 0: such an axis is not heard.

    Source: Halko, Martinsson & Tropp 2011, Algorithm 4.1 for J'. Differs: S adds up entries with
    random signs (Clarkson & Woodruff 2013), because a normal S would be larger than J; and an entry
    adds to the row that is its index modulo SKETCHED, not to a random one.
    """
    dimension = subspace.dimension
    difference = DIFFERENCE * dimension**0.5
    start = _read(model, subspace, np.zeros((1, dimension)), sentence, placeholder)
    generator = torch_generator(seed, 0, "hearing")
    signs = torch.randint(2, start.shape[1:], generator=generator) * 2.0 - 1
    signs, missing = signs.to(start.device), -len(signs) % SKETCHED
    columns = []
    for begin, end in ranges(dimension, MOST):
        points = difference * np.eye(end - begin, dimension, begin)
        changed = _read(model, subspace, points, sentence, placeholder) - start
        sums = F.pad(changed * signs, (0, missing)).unflatten(1, (-1, SKETCHED)).sum(1)
        columns.append(sums.cpu().double().numpy() / difference)
    sketch = np.nan_to_num(np.concatenate(columns).T, posinf=0, neginf=0)
    squares, axes = np.linalg.eigh(sketch @ sketch.T)
    known = squares > 1e-12 * squares[-1]
    weights = squares[known] ** ((POWER - 1) / 2)
    return np.asarray((axes[:, known] * weights) @ (axes[:, known].T @ sketch))


def _read(
    model: Model, subspace: Subspace, points: Coords, sentence: str, placeholder: str
) -> torch.Tensor:
    """Point x entry: what the denoiser reads."""
    return model.condition([sentence], {placeholder: subspace.vectors(points)}).flatten(1)
