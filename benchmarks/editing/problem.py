"""What every editor is given, and what it gives back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.editing.edits import Edit
from evoken.arrays import Images, Latents
from evoken.flowopt.sampler import ModelSampler, Prompts
from evoken.models.families.latent import LatentModel
from evoken.seeds import torch_generator
from stickers.autoencoder import to_images


class Result(NamedTuple):
    """Finished pictures of N edits.

    Attributes:
        strength: that they were made with.
        calls: of the denoiser for one picture, in the mean, as if no other strength had been asked
            for.
        images: N x 3 x S x S, as the decoder gives them.
        mask: N x 1 x h x w in [0, 1], if the editor found where the edit is.
        pasted: the images put into the originals, if the editor does that itself.
    """

    strength: float
    calls: float
    images: Images
    mask: torch.Tensor | None = None
    pasted: Images | None = None


class Problem:
    """Some edits, encoded.

    Attributes:
        model, edits
        images: N x 3 x S x S, the sources.
        latents: theirs, y.
        sources, targets: N prompts each.
    """

    def __init__(self, model: LatentModel, edits: Sequence[Edit]) -> None:
        self.model, self.edits = model, edits
        self.images = to_images(np.stack([e.pixels for e in edits]), torch.device("cpu"))
        self.latents = model.encode(self.images)
        self.sources, self.targets = zip(*(e.prompts for e in edits), strict=True)

    def sampler(self, steps: int, last: int = 0) -> ModelSampler:
        """Of the last steps of a schedule; it counts its calls."""
        return ModelSampler(self.model, steps, last)

    def source(self, f: ModelSampler, guidance: float = 1.0) -> Prompts:
        """What the pictures show."""
        return f.condition(self.sources, guidance)

    def target(self, f: ModelSampler, guidance: float = 1.0) -> Prompts:
        """What they should show."""
        return f.condition(self.targets, guidance)

    def empty(self, f: ModelSampler) -> Prompts:
        """No prompt."""
        return f.condition([""] * len(self.edits))

    def noise(self, purpose: str) -> Latents:
        """Fresh noise, which depends on the edit and the purpose alone."""
        rows = [
            torch.randn(self.latents.shape[1:], generator=torch_generator(0, 0, f"{purpose} {e}"))
            for e in (edit.name for edit in self.edits)
        ]
        return torch.stack(rows)

    def result(
        self, strength: float, calls: int, latents: Latents, mask: torch.Tensor | None = None
    ) -> Result:
        """Finished pictures.

        Args:
            calls: of all pictures.
        """
        return Result(strength, calls / len(self.edits), self.model.decode(latents), mask)


Run = Callable[[Problem, Sequence[float]], Iterator[Result]]  # a result for each of the strengths


class Settings(NamedTuple):
    """One way to run an editor, and the strengths that are tried with it."""

    run: Run
    strengths: tuple[float, ...]


Method = Mapping[str, Settings]  # an editor: the settings that are tried, by their names
