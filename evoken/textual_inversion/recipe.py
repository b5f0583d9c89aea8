"""The objective of a run, and all that another process needs to build it again."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from evoken.annotations import NONE, Annotations
from evoken.arrays import Images
from evoken.errors import SettingError
from evoken.evaluation.chunks import Objective
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.models.load import load_clip, load_model
from evoken.prompts import KINDS
from evoken.spec import ModelSpec
from evoken.textual_inversion.joint import JointLoss, beside, resized
from evoken.textual_inversion.objective import DenoisingLoss, ImageSimilarity
from evoken.textual_inversion.settings import LearnSettings


def build_objective(
    s: LearnSettings,
    model: Model,
    images: Images,
    clip: Clip | None,
    annotations: Annotations = NONE,
) -> Objective:
    """The objective of these settings, on one model or two.

    Raises:
        SettingError: it needs a CLIP and has none, or the other model reads words in another way.
        ModelError: the other model cannot be loaded, or is distilled.
    """
    own = _on_one(s, model, images, clip, annotations)
    if not s.also:
        return own
    other = beside(model, s.also)
    masks = annotations.masks
    masks = None if masks is None else resized(masks, other.size)
    its = replace(annotations, masks=masks)
    return JointLoss([own, _on_one(s, other, resized(images, other.size), clip, its)])


def _on_one(
    s: LearnSettings, model: Model, images: Images, clip: Clip | None, annotations: Annotations
) -> Objective:
    kind = KINDS[s.kind]
    if s.objective == "similarity":
        if clip is None:
            raise SettingError(
                "the objective similarity needs a CLIP model.", "Give one with `clip`."
            )
        return ImageSimilarity(model, images, s.placeholder, kind.templates, s.seed, clip)
    return DenoisingLoss(
        model,
        images,
        s.placeholder,
        kind.templates,
        s.seed,
        s.draws,
        s.sentences,
        (s.t_low, s.t_high),
        s.validation_draws,
        "independent-draws" not in s.mistakes,
        s.weighting,
        s.chunk,
        annotations.masks,
        [kind.template(caption, s.placeholder) for caption in annotations.captions],
    )


@dataclass(frozen=True)
class Recipe:
    """What a worker builds its objective from. It travels once, and weights never do: every worker
    loads them itself.

    Attributes:
        clip: the name of the CLIP model.
        images: N x 3 x S x S in [-1, 1], float32.
        masks, captions: see ``Annotations``.
    """

    settings: LearnSettings
    spec: ModelSpec
    clip: str
    images: NDArray[np.float32]
    masks: NDArray[np.float32] | None = None
    captions: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        settings: LearnSettings,
        spec: ModelSpec,
        clip: str,
        images: Images,
        annotations: Annotations = NONE,
    ) -> "Recipe":
        """From tensors."""
        masks = None if annotations.masks is None else annotations.masks.numpy()
        return cls(settings, spec, clip, images.numpy(), masks, annotations.captions)

    def __call__(self, device: str) -> Objective:
        """The objective, its model on ``device``."""
        model = load_model(replace(self.spec, device=device))
        similarity = self.settings.objective == "similarity"
        clip = load_clip(self.clip, device, self.spec.offload) if similarity else None
        masks = None if self.masks is None else torch.from_numpy(self.masks.copy())
        images, annotations = (
            torch.from_numpy(self.images.copy()),
            Annotations(masks, self.captions),
        )
        return build_objective(self.settings, model, images, clip, annotations)
