"""The kinds of concept, and the sentences that their words are learned and measured in.

Source of ``OBJECT_TEMPLATES`` and ``STYLE_TEMPLATES``: Gal et al. 2022, "An Image is Worth One
Word", the 27 for objects and 19 for styles that the field's training scripts share (a subset of
CLIP's ImageNet templates). Differs: half of the sentences that objects are learned in go on after
the word, as prompts do.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

# What follows a word in a sentence reads it, too. All of the above end with the word, so a word
# that is learned in them alone need not let anything be said after it (decision 18). These say
# where the thing is, as prompts do, and little that a picture could be at odds with.
OBJECT_TEMPLATES_THAT_GO_ON: tuple[str, ...] = (
    "a photo of a {} on a background",
    "a photo of a {} in a place",
    "a photo of a {} in the open",
    "a photo of the {} in its place",
    "a photo of a {} at some place",
    "a good photo of a {} in a scene",
    "a photo of a {} on the ground",
    "a photo of my {} at home",
    "a photo of one {} in the light",
    "a close-up photo of a {} in the frame",
    "a cropped photo of the {} in view",
    "a photo of a clean {} on a surface",
    "a rendering of a {} in a scene",
    "a photo of a {} in front of something",
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


@dataclass(frozen=True)
class Kind:
    """A kind of concept that a word is learned for; {} in sentences is where the word goes.

    Attributes:
        templates: the sentences that it is learned in.
        plain: the sentence that CLIP reads single words in, and that shows the concept alone.
        captioned: the sentence of a picture with a caption that is without the word.
        edits: changes of background and of style, like those that the paper shows (Fei et al. 2023,
            4.3); scores are measured on these and on the plain sentence.
        vectors: token embeddings that a word should have.
        beside, recoloured: sentences with another thing, and with another colour; "" for none.
    """

    templates: tuple[str, ...]
    plain: str
    captioned: str
    edits: tuple[str, ...]
    vectors: int = 1
    beside: str = ""
    recoloured: str = ""

    @property
    def samples(self) -> tuple[str, ...]:
        """The sentences that a learned word is shown and measured in."""
        return self.plain, *self.edits

    def template(self, caption: str, placeholder: str) -> str:
        """A picture's caption as a template: as it is if the placeholder is in it, or else with
        what joins it to the word; "" for none.
        """
        text = caption.replace("{", "{{").replace("}", "}}")
        if not text or holds(caption, placeholder):
            return text
        return self.captioned.replace("{caption}", text)

    def sentences(self, words: Sequence[str]) -> list[str]:
        """What CLIP reads of each word."""
        return [self.plain.format(word) for word in words]


OTHER = "house"  # the thing that a word is put beside
# How a sentence leads to its thing: "a photo [of a {}] on the beach", "a cat [in the style of {}]".
LEADING = re.compile(r"\s*\b(?:of|in the style of)(?:\s+(?:a|an|the))?\s+\{\}|\s*\{\}")


def rest_of(template: str) -> str:
    """What a sentence says of everything but its thing."""
    return " ".join(LEADING.sub("", template).split())


KINDS = {
    "object": Kind(
        (*OBJECT_TEMPLATES[: len(OBJECT_TEMPLATES_THAT_GO_ON)], *OBJECT_TEMPLATES_THAT_GO_ON),
        "a photo of a {}",
        "a photo of a {}, {caption}",
        (
            "a photo of a {} on the beach",
            "a photo of a {} in space",
            "a photo of a {} in the snow",
            "a photo of a {} in the forest",
            "an oil painting of a {}",
            "a pencil sketch of a {}",
            "a pixel art of a {}",
            "a photo of a {} on a blue background",
        ),
        beside=f"a photo of a {{}} next to a {OTHER}",
        recoloured="a photo of a blue {}",
    ),
    "style": Kind(
        STYLE_TEMPLATES,
        "a painting in the style of {}",
        "{caption} in the style of {}",
        (
            "a cat in the style of {}",
            "a house in the style of {}",
            "a car in the style of {}",
            "a rose in the style of {}",
        ),
        vectors=3,  # its sentences say nothing of what is shown; one vector was too few
    ),
}


def pieces(prompt: str, placeholders: Iterable[str]) -> list[tuple[str, str]]:
    """A prompt cut at the placeholders in it: texts, each with the placeholder that follows it; the
    last one with "".

    A placeholder is a whole word of the prompt: "cat" is in "a cat's hat", and in neither
    "cathedral" nor "cat_2". Of two that begin at one place the longer one is meant.
    """
    whole = []
    for name in sorted(filter(None, placeholders), key=len, reverse=True):
        before = r"(?<!\w)" if re.match(r"\w", name) else ""
        after = r"(?!\w)" if re.search(r"\w$", name) else r"(?!_\d)"
        whole.append(f"{before}{re.escape(name)}{after}")
    if not whole:
        return [(prompt, "")]
    found, end = [], 0
    for match in re.finditer("|".join(whole), prompt):
        found.append((prompt[end : match.start()], match[0]))
        end = match.end()
    return [*found, (prompt[end:], "")]


def holds(prompt: str, placeholder: str) -> bool:
    """Whether a placeholder is a word of a prompt."""
    return len(pieces(prompt, [placeholder])) > 1


def without(prompt: str, placeholders: Iterable[str]) -> str:
    """A prompt with its placeholders left out."""
    return "".join(text for text, _ in pieces(prompt, placeholders))
