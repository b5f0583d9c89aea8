"""Several words as one: the weighted sum of their vectors."""

import math
import os
import re
from collections.abc import Mapping, Sequence

import torch

from evoken.errors import SettingError, WordError, shown
from evoken.words.layouts import Embedding
from evoken.words.word import Word


def merge(
    words: Sequence[Word], weights: Sequence[float] | None = None, placeholder: str = "<merged>"
) -> Word:
    """A word whose vectors are the weighted sum of those of words for the same model.

    The weights are taken as they are: where they do not sum to 1, the vectors become that much
    longer or shorter than those of a usual word.

    Args:
        words: at least two, with the same text encoders and numbers of vectors.
        weights: one for each word; by default all the same, with the sum 1.
        placeholder: the name of the result in prompts.

    Raises:
        WordError: the words are of different models or sizes.
        SettingError: a weight too few or too many, or one that is not finite, or all are 0, or
            they are so large that vectors are not finite; the placeholder is blank.
    """
    given = [1 / max(1, len(words))] * len(words) if weights is None else list(weights)
    if len(words) < 2:
        raise WordError(f"merging needs two words or more (got {len(words)}).", "Add a word.")
    if len(given) != len(words):
        raise SettingError(
            f"there must be one weight for each word, {len(words)} (got {len(given)}).",
            "Give all `weights` or none.",
        )
    if not all(map(math.isfinite, given)) or not any(given):
        raise SettingError(
            f"`weights` must be finite numbers, not all 0 (got {', '.join(map(str, given))}).",
            "Use numbers such as 0.7 and 0.3.",
        )
    first = words[0]
    for word in words[1:]:
        if word.encoders != first.encoders or word.vectors.shape != first.vectors.shape:
            raise WordError(
                f"words to merge must be for the same text encoders and have as many vectors (got "
                f"{_size(first)} and {_size(word)}).",
                "Merge words that were learned on the same model.",
            )
    stack = torch.stack([word.vectors.double() for word in words])
    total = torch.einsum("w,wvd->vd", torch.tensor(given, dtype=torch.float64), stack).float()
    if not total.isfinite().all():
        raise SettingError(
            f"`weights` make vectors too large for any file (got {', '.join(map(str, given))}).",
            "Use numbers such as 0.7 and 0.3.",
        )
    if not placeholder.strip():
        raise SettingError("`placeholder` must not be empty.", "Use a name such as '<cat>'.")
    return Word(placeholder, total, first.encoders)


def _size(word: Word) -> str:
    rows, width = word.vectors.shape
    parts = ", ".join(f"{n} {w}" for n, w in word.encoders.items()) or f"width {width}"
    return f"{shown(word.placeholder)}: {rows} x {parts}"


def check_bases(embeddings: Sequence[Embedding]) -> None:
    """Raise ``WordError`` for words whose files say that they are for different kinds of model."""
    first = embeddings[0]
    for other in embeddings[1:]:
        if first.bases and other.bases and not set(first.bases) & set(other.bases):
            raise WordError(
                f"words to merge must be for the same model (got {shown(first.placeholder)} for "
                f"{first.purpose} and {shown(other.placeholder)} for {other.purpose}).",
                "Merge words that were learned on the same model.",
            )


def about_merged(embeddings: Sequence[Embedding], weights: Sequence[float]) -> Mapping[str, str]:
    """What the file of a merged word says of its making: names and weights, and no path."""
    named = [f"{w:g} {e.placeholder}" for e, w in zip(embeddings, weights, strict=True)]
    kinds = {e.about["architecture"] for e in embeddings if "architecture" in e.about}
    about = {"merged": " + ".join(named)}
    return about | ({"architecture": kinds.pop()} if len(kinds) == 1 else {})


def weighted(texts: Sequence[str]) -> tuple[list[str], list[float]]:
    """Words and weights of WORD:WEIGHT; without any weight all are the same, with the sum 1.

    Raises:
        SettingError: some words have a weight, and some have none, or a weight is no number.
    """
    paths, weights = [], []
    for text in texts:
        path, _, weight = text.rpartition(":")
        try:
            weights.append(float(weight) if path else math.nan)
        except ValueError:
            names_word = os.path.lexists(path) and not os.path.lexists(text)
            if names_word or re.fullmatch(r"[0-9.,]+%?", weight):
                raise SettingError(
                    f"the weight behind the colon must be a number (got {shown(weight)}).",
                    "Write it like 0.7, with a point.",
                ) from None
            weights.append(math.nan)
        paths.append(text if math.isnan(weights[-1]) else path)
    missing = [path for path, weight in zip(paths, weights, strict=True) if math.isnan(weight)]
    if missing and len(missing) < len(paths):
        raise SettingError(
            f"every word needs a weight, or none (got none for {shown(missing[0], 200)}).",
            "Type it behind a colon, such as runs/cat:0.7.",
        )
    return paths, [1 / len(paths)] * len(paths) if missing else weights
