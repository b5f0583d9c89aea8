"""The variants that the paper compares (4.3, Figures 4 and 5), on its search and on evoken's.

Beside them stand the rows of the contest that they are variants of: "GFTI, paper" (256 principal
axes, which is the width of the sticker models' vectors, one word, from Eq. 4) and "evoken" (the
full space, one word, from Eq. 4).
"""

from typing import Any

from benchmarks.evidence.methods import CORRECTED, METHODS, Row, of_evoken


def _paper(about: str, **changes: Any) -> Row:
    return Row("losses", about, {"": of_evoken("paper", **CORRECTED | changes)})


def _evoken(about: str, images: int = 5, **changes: Any) -> Row:
    return Row("residuals", about, {"": of_evoken(**changes)}, images=images)


_GRADIENTS = METHODS["gradients, averaged"]

ABLATIONS: dict[str, Row] = {
    "paper, 64 axes": _paper("64 principal axes", axes=64),
    "paper, 128 axes": _paper("128 principal axes", axes=128),
    "paper, prior norm": _paper("axes of Eq. 5, lambda 1", subspace="prior"),
    "paper, prior norm 0.5": _paper("lambda 0.5", subspace="prior", stretch=0.5),
    "paper, prior norm 2": _paper("lambda 2", subspace="prior", stretch=2.0),
    "paper, normal axes": _paper("random axes that know no vocabulary", subspace="normal"),
    "paper, full space": _paper("no subspace", subspace="identity", axes=0),
    "paper, 2 words": _paper("two pseudo-words", vectors=2),
    "paper, 3 words": _paper("three pseudo-words", vectors=3),
    "paper, random start": _paper("without initialization", initialization="random"),
    "paper, zero start": _paper("from a vector of zeros", zero=True),
    "paper, start by loss": _paper("from the start with the lowest loss", initialization="lowest"),
    "evoken, 64 axes": _evoken("64 principal axes", subspace="pca", axes=64),
    "evoken, 128 axes": _evoken("128 principal axes", subspace="pca", axes=128),
    "evoken, 256 axes": _evoken("256 principal axes", subspace="pca", axes=256),
    "evoken, prior norm": _evoken("axes of Eq. 5, lambda 1", subspace="prior"),
    "evoken, 2 words": _evoken("two pseudo-words", vectors=2),
    "evoken, 3 words": _evoken("three pseudo-words", vectors=3),
    "evoken, start by loss": _evoken(
        "from the start with the lowest loss", initialization="lowest"
    ),
    "evoken, random start": _evoken("without initialization", initialization="random"),
    "evoken, zero start": _evoken("from a vector of zeros", zero=True),
    "evoken, 1 image": _evoken("of the five images, one", images=1),
    "evoken, 3 images": _evoken("of the five images, three", images=3),
    "evoken, 10 images": _evoken("five more images", images=10),
    "gradients, 1 image": _GRADIENTS._replace(
        about="of the five images, one", images=1, like="gradients, averaged"
    ),
    "gradients, 10 images": _GRADIENTS._replace(
        about="five more images", images=10, like="gradients, averaged"
    ),
}
# Only styles need more than one vector by themselves.
STYLES: dict[str, Row] = {
    "evoken, 1 word": _evoken("one pseudo-word", vectors=1),
    "evoken, no captions": _evoken("nothing says what the pictures show")._replace(captions=False),
    "gradients, 1 word": _GRADIENTS._replace(
        about="one pseudo-word", vectors=1, like="gradients, averaged"
    ),
    "gradients, 2 words": _GRADIENTS._replace(
        about="two pseudo-words", vectors=2, like="gradients, averaged"
    ),
    "gradients, no captions": _GRADIENTS._replace(
        about="nothing says what the pictures show", like="gradients, averaged", captions=False
    ),
}
STARTS = (  # of Figure 5
    *("evoken", "evoken, start by loss", "evoken, random start", "evoken, zero start"),
    *("GFTI, paper", "paper, random start", "paper, zero start", "paper, start by loss"),
)
