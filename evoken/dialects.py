"""What other programs read in a prompt and this one does not: a note for each kind.

Here a prompt is text, and what a word's placeholder stands for is put in; nothing else in it has a
meaning. One who types what another program knows gets a picture, and no hint that it was ignored.
"""

import re
import warnings
from collections.abc import Iterable
from typing import Protocol

from evoken.errors import PromptWarning, shown
from evoken.prompts import pieces

# No capitals beside: in a prompt that is all capitals, such as a sign's, AND is a word.
ALONE = r"(?<![A-Z]\W)\b{}\b(?!\W[A-Z])"
# Kind by kind: the pattern, what it is, and what to do instead. The first that fits a place counts.
KINDS: tuple[tuple[str, str, str], ...] = (
    (
        r"<(?:lora|lyco|hypernet):[^<>]*>",
        "loads a LoRA in A1111",
        "leave it out: LoRAs cannot be used, except in a model that one was merged into",
    ),
    (
        r"\bembedding:[^\s,()\[\]<>:]+",
        "is a learned word in ComfyUI",
        "type the word itself, and give its file with `word`",
    ),
    (
        r"<\w(?:[\w .,'-]*\w)?>",
        "looks like a learned word that was not given",
        "give its run folder or file with `word`",
    ),
    (
        r"\\[()\[\]]",
        "is a bracket without a meaning in A1111 and ComfyUI",
        "type the bracket alone: no bracket has a meaning here",
    ),
    # (3:2) and (at 10:30) are no weights, (cat2:1.3) and (cat:2) are.
    (
        r"\((?:[^()]*[^\d\s():]\s*:\s*[+-]?\d*\.?\d+|[^():]*\w\s*:\s*[+-]?\d*\.\d+)\s*\)",
        "is a weight in A1111 and ComfyUI",
        "leave out the brackets and the number: there are no weights here",
    ),
    (
        r"\(\([^()]*\w[^()]*\)\)+",
        "is a weight in A1111 and ComfyUI",
        "leave out the brackets: there are no weights here",
    ),
    (
        r"\[[^\[\]]*\w[^\[\]]*\]",
        "is a weight or a change between steps in A1111",
        "leave out the brackets: there are no weights here",
    ),
    (
        r"\{[^{}]*\|[^{}]*\}|\b__[\w/-]+?__\b",
        "is a choice at random in A1111's and ComfyUI's extensions",
        "type one of the choices",
    ),
    (
        ALONE.format("BREAK"),
        "begins a new part of a prompt in A1111",
        "leave it out: a prompt is read as one",
    ),
    (
        ALONE.format("AND"),
        "joins two prompts in A1111",
        "type a comma or 'and': a prompt is read as one",
    ),
)


class Named(Protocol):
    """A learned word, of which only the name counts here."""

    @property
    def placeholder(self) -> str:
        """As in prompts."""


PATTERNS = tuple(re.compile(pattern) for pattern, _, _ in KINDS)


def warn_of(prompts: Iterable[str], words: Iterable[Named], level: int = 3) -> None:
    """Warn of what ``notes`` tells, where no command line does.

    Args:
        words: those that are given.
        level: how many calls further up the prompts came from.
    """
    for note in notes(prompts, [word.placeholder for word in words]):
        warnings.warn(note.removeprefix("Note: "), PromptWarning, level)


def notes(prompts: Iterable[str], placeholders: Iterable[str] = ()) -> list[str]:
    """One sentence for each kind of what another program would not read as plain text, with the
    first example; settings are in backticks.

    Args:
        placeholders: those of the words that are given, which are read as meant.
    """
    known = tuple(placeholders)
    said: dict[int, str] = {}
    for prompt in dict.fromkeys(prompts):
        # Letters in their place, so that (<cat>:1.3) is still a weight.
        left = "".join(text + "x" * len(name) for text, name in pieces(prompt, known))
        for i, pattern in enumerate(PATTERNS):
            for match in pattern.finditer(left):
                said.setdefault(i, prompt[match.start() : match.end()])
            left = pattern.sub(lambda match: "x" * len(match[0]), left)
    return [
        f"Note: {shown(said[i])} {what}, and is plain text here; {instead}."
        for i, (_, what, instead) in enumerate(KINDS)
        if i in said
    ]
