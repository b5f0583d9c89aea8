"""The score of its previews that learning shows beside its loss: chosen here and nowhere else.

Of all scores the loss agrees best with the judge (``python -m benchmarks.agreement``), so learning
shows that first, beside the loss of no word. Of the scores of pictures, people agree best with the
concept score, and least with CLIP-I (docs/scores.md).
"""

from evoken.arrays import Images, Masks
from evoken.models.clip import Clip
from evoken.pictures.metrics import Score, concept_score
from evoken.pictures.scoring import thing_masks

NAME = "concept"
ABOUT = "concept score of the previews"
BEFORE = "CLIP"  # what earlier versions showed, CLIP-I


def shown_score(
    clip: Clip, pictures: Images, images: Images, kind: str, masks: Masks | None
) -> Score:
    """Of a preview's pictures.

    Args:
        images: N x 3 x S x S, that the word is learned from.
        masks: those that they have.
    """
    things = None if kind == "style" else thing_masks(images, masks)
    return concept_score(clip, pictures, images, things)
