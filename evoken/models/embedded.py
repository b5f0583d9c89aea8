"""The sticker models that are shipped in the package."""

from collections.abc import Sequence
from pathlib import Path

from evoken.arrays import Images

STICKERS = Path(__file__).parent / "weights"
EMBEDDED = ("stickers", "stickers-flow")
JUDGED_SIZE = 64  # px; of the pictures that the judge was trained on

# Share of neighbouring pixels that are equal, in pictures of 64 px. Drawings have flat colours: of
# stickers it is .6 and more, in the median of a set; of photographs, whose grain survives, below
# .4 (six sets of photographs, a cartoon among them, and the examples of this package).
FLAT = 0.5


def sticker_note(name: str, images: Images, sides: Sequence[int]) -> str:
    """What to say before a sticker model gets images that are plainly no stickers; "" where there
    is nothing to say.

    Args:
        name: of the model.
        images: N x 3 x S x S in [-1, 1].
        sides: of the pictures in their files. Small ones are what such a model draws, and what it
            draws is less flat than a sticker.
    """
    small = sorted(sides)[len(sides) // 2] < 2 * JUDGED_SIZE
    if name not in EMBEDDED or small or float(_flatness(images).median()) >= FLAT:
        return ""
    return (
        f"Note: these are no stickers, and {name} draws nothing but stickers of {JUDGED_SIZE} px. "
        "For photographs, choose a model that was trained on them with `name`."
    )


def _flatness(images: Images) -> Images:
    """N: the share of neighbours with one colour, sideways or up and down, whichever is larger."""
    shares = [
        (images.diff(dim=axis).abs().amax(1) < 1 / 255).float().mean((1, 2)) for axis in (3, 2)
    ]
    return shares[0].maximum(shares[1])
