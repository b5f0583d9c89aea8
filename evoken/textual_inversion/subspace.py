"""The affine subspace that is searched: vectors = origin + coords @ basis (paper 3.5).

All bases share one scale: standard normal coords move a vector, on average over the draws, by the
spread of the vocabulary (the root of its total variance). So one sigma has the same meaning in
all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from evoken.arrays import Coords, Vectors
from evoken.errors import SettingError
from evoken.options import one_of
from evoken.textual_inversion.settings import SUBSPACES

USUAL = 256  # axes of a subspace that leaves some out, as in the paper


@dataclass(frozen=True)
class Subspace:
    """One origin and one basis.

    Attributes:
        origin: vector x width.
        basis: axis x width, the axes of each vector's own block of coords; or just width, where
            each axis moves one component, by so much.
        longest: width of each encoder's part, and the length that a vector has there at most;
            empty for no limit.
    """

    origin: Vectors
    basis: Tensor
    longest: tuple[tuple[int, float], ...] = ()

    @property
    def dimension(self) -> int:
        """Number of coords: axes times vectors."""
        return len(self.basis) * len(self.origin)

    def vectors(self, coords: Coords) -> Vectors:
        """Candidate x vector x width, from candidate x dimension."""
        blocks = torch.from_numpy(coords).view(len(coords), len(self.origin), len(self.basis))
        basis = self.basis.double()
        steps = blocks * basis if basis.dim() == 1 else blocks @ basis
        return self._shortened(self.origin.double() + steps).float()  # (Eq. 2)

    def _shortened(self, vectors: Tensor) -> Tensor:
        """Vectors that are too long, at the nearest point of the sphere: a search that goes on
        outside of it moves along its surface.
        """
        if not self.longest:
            return vectors
        parts = vectors.split([width for width, _ in self.longest], -1)
        scaled = [
            part * (most / part.norm(dim=-1, keepdim=True)).clamp(max=1)  # zeros stay zeros
            for part, (_, most) in zip(parts, self.longest, strict=True)
        ]
        return torch.cat(scaled, -1)


def spread(vocabulary: Tensor) -> float:
    """Root of the total variance of word x width embeddings."""
    return float(vocabulary.double().var(0).sum().sqrt())


def pca_basis(vocabulary: Tensor, axes: int) -> Tensor:
    """The leading principal axes of the vocabulary, in the ratio of their standard deviations.

    Source: Fei et al. 2023, 3.5. Differs: the paper's axes have length 1, which moves a word by
    many times its norm; and rare directions count as much as common ones.
    """
    centred = vocabulary.double() - vocabulary.double().mean(0)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    # The sign of a principal axis is arbitrary; fixed, so that every machine searches the same.
    flip = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    # Singular values are in the ratio of the standard deviations.
    return _scaled((directions * flip * singular[:, None])[:axes], vocabulary)


def unit_pca_basis(vocabulary: Tensor, axes: int) -> Tensor:
    """The paper's own PCA basis: axes of length 1, without the common scale."""
    scaled = pca_basis(vocabulary, axes)
    return scaled / scaled.norm(dim=1, keepdim=True)


def prior_basis(
    vocabulary: Tensor, axes: int, stretch: float, generator: torch.Generator
) -> Tensor:
    """Random normal axes with the standard deviation that gives W Q the vocabulary's variances.

    Source: Fei et al. 2023, Eq. 5: sigma_p = lambda sigma_e / (sqrt(d) sigma_Q), with sigma_Q = 1
    in units of the search's own sigma and ``stretch`` for lambda; sigma_e of each component apart.
    """
    std = vocabulary.double().std(0)
    noise = torch.randn(axes, len(std), generator=generator, dtype=torch.float64)
    return (stretch * std * noise / axes**0.5).float()  # (Eq. 5)


def normal_basis(vocabulary: Tensor, axes: int, generator: torch.Generator) -> Tensor:
    """Random normal axes that know nothing of the vocabulary but its overall spread."""
    noise = torch.randn(axes, vocabulary.shape[1], generator=generator, dtype=torch.float64)
    return _scaled(noise, vocabulary)


def identity_basis(vocabulary: Tensor) -> Tensor:
    """Every component of a vector by itself, in units of its standard deviation: no reduction. What
    would be a diagonal matrix is a vector.
    """
    return _scaled(vocabulary.double().std(0), vocabulary)


def _scaled(basis: Tensor, vocabulary: Tensor) -> Tensor:
    """E |z @ basis|^2 for standard normal z is the sum of squares of the basis."""
    return (basis * (spread(vocabulary) / basis.square().sum().sqrt())).float()


def most_axes(kind: str, words: int, parts: Sequence[int]) -> list[int]:
    """The most axes that a vocabulary of so many words has for each part of its vectors."""
    return [min(width, words - 1) if kind == "pca" else width for width in parts]


def axes_used(kind: str, asked: int, words: int, parts: Sequence[int]) -> int:
    """The axes per vector of a run.

    Args:
        asked: the setting ``axes``; 0 for all that there are, but for "identity" at most USUAL.
        words, parts: see ``most_axes``.
    """
    most = sum(most_axes(kind, words, parts))
    return asked or (most if kind == "identity" else min(USUAL, most))


def build_subspace(
    kind: str,
    origin: Vectors,
    vocabulary: Tensor,
    axes: int,
    generator: torch.Generator,
    parts: Sequence[int] = (),
    stretch: float = 1.0,
    unit_axes: bool = False,
) -> Subspace:
    """The subspace of a run.

    Vectors of several encoders are searched in the sum of a subspace for each: an axis moves one
    encoder's part alone, in units of the spread of that encoder's vocabulary. Axes of the whole
    would follow whichever encoder has the longer embeddings.

    Args:
        kind: one of SUBSPACES.
        axes: axes per vector (d), at most the width, and for "pca" less than the number of words
            for each part; "identity" has just the width. Parts get them in proportion.
        parts: width of each encoder's part; by default there is one.
        unit_axes: "pca" with the paper's axes of length 1.

    Raises:
        SettingError: unknown kind or impossible number of axes.
    """
    words, width = vocabulary.shape
    one_of("subspace", kind, SUBSPACES)
    parts = parts or (width,)
    most = most_axes(kind, words, parts)
    # Halves go up: Python's rounding to even could leave a part without the axis that is its share.
    all_axes = sum(most)
    ends = [(2 * axes * e + all_axes) // (2 * all_axes) for e in accumulate(most, initial=0)]
    shares = [end - start for start, end in pairwise(ends)]
    least = width if kind == "identity" else len(parts)
    if not least <= axes <= sum(most) or not all(shares):
        raise SettingError(
            f"`axes` must be from {least} to {sum(most)} for the subspace {kind} (got {axes}).",
            "Change `axes` or `subspace`.",
        )
    blocks = []
    for part, share in zip(vocabulary.split(list(parts), 1), shares, strict=True):
        if kind == "pca":
            blocks.append((unit_pca_basis if unit_axes else pca_basis)(part, share))
        elif kind == "prior":
            blocks.append(prior_basis(part, share, stretch, generator))
        elif kind == "normal":
            blocks.append(normal_basis(part, share, generator))
        else:
            blocks.append(identity_basis(part))
    joined = torch.cat(blocks) if kind == "identity" else torch.block_diag(*blocks)
    return Subspace(origin, joined)
