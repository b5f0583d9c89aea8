"""The objective of a run, and all that another process needs to build it again."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from evoken.arrays import Images
from evoken.errors import SettingError
from evoken.evaluation.chunks import Objective
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.models.load import load_clip, load_model
from evoken.prompts import KINDS
from evoken.spec import ModelSpec
from evoken.textual_inversion.objective import DenoisingLoss, ImageSimilarity
from evoken.textual_inversion.settings import LearnSettings


def build_objective(s: LearnSettings, model: Model, images: Images, clip: Clip | None) -> Objective:
    """The objective of these settings; raises ``SettingError`` if it needs a CLIP and has none."""
    if s.objective == "similarity":
        if clip is None:
            raise SettingError(
                "the objective similarity needs a CLIP model.", "Give one with `clip`."
            )
        return ImageSimilarity(model, images, s.placeholder, KINDS[s.kind].templates, s.seed, clip)
    return DenoisingLoss(
        model,
        images,
        s.placeholder,
        KINDS[s.kind].templates,
        s.seed,
        s.draws,
        s.sentences,
        (s.t_low, s.t_high),
        s.validation_draws,
        "independent-draws" not in s.mistakes,
        s.weighting,
        s.chunk,
    )


@dataclass(frozen=True)
class Recipe:
    """What a worker builds its objective from. It travels once, and weights never do: every worker
    loads them itself.

    Attributes:
        clip: the name of the CLIP model.
        images: N x 3 x S x S in [-1, 1], float32.
    """

    settings: LearnSettings
    spec: ModelSpec
    clip: str
    images: NDArray[np.float32]

    def __call__(self, device: str) -> Objective:
        """The objective, its model on ``device``."""
        model = load_model(replace(self.spec, device=device))
        similarity = self.settings.objective == "similarity"
        clip = load_clip(self.clip, device) if similarity else None
        return build_objective(self.settings, model, torch.from_numpy(self.images.copy()), clip)
