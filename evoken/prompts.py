"""The sentences that a placeholder is learned in.

Source: Gal et al. 2022, "An Image is Worth One Word", the 27 object and 19 style templates that the
field's training scripts share (a subset of CLIP's ImageNet templates).
"""

from collections.abc import Sequence

OBJECT_TEMPLATES: tuple[str, ...] = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)

STYLE_TEMPLATES: tuple[str, ...] = (
    "a painting in the style of {}",
    "a rendering in the style of {}",
    "a cropped painting in the style of {}",
    "the painting in the style of {}",
    "a clean painting in the style of {}",
    "a dirty painting in the style of {}",
    "a dark painting in the style of {}",
    "a picture in the style of {}",
    "a cool painting in the style of {}",
    "a close-up painting in the style of {}",
    "a bright painting in the style of {}",
    "a cropped painting in the style of {}",
    "a good painting in the style of {}",
    "a close-up painting in the style of {}",
    "a rendition in the style of {}",
    "a nice painting in the style of {}",
    "a small painting in the style of {}",
    "a weird painting in the style of {}",
    "a large painting in the style of {}",
)

# What scores are measured on (Fei et al. 2023, 4.3): a plain sentence, and changes of background
# and of style like those that the paper shows.
RECONSTRUCTION_PROMPT: dict[str, str] = {
    "object": "a photo of a {}",
    "style": "a painting in the style of {}",
}
EDITING_PROMPTS: dict[str, tuple[str, ...]] = {
    "object": (
        "a photo of a {} on the beach",
        "a photo of a {} in space",
        "a photo of a {} in the snow",
        "a photo of a {} in the forest",
        "an oil painting of a {}",
        "a pencil sketch of a {}",
        "a pixel art of a {}",
        "a photo of a {} on a blue background",
    ),
    "style": (
        "a cat in the style of {}",
        "a house in the style of {}",
        "a car in the style of {}",
        "a rose in the style of {}",
    ),
}
SENTENCE = {"object": "a photo of a {}", "style": "a painting in the style of {}"}


def templates(kind: str) -> tuple[str, ...]:
    """The sentences of a kind of concept."""
    return OBJECT_TEMPLATES if kind == "object" else STYLE_TEMPLATES


def sentences(words: Sequence[str], kind: str) -> list[str]:
    """What CLIP reads of each word."""
    return [SENTENCE[kind].format(word) for word in words]
