"""All scores of a word: its pictures are drawn, and looked at."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch

from evoken.arrays import Images, Masks
from evoken.errors import SettingError
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.models.image_encoder import ImageEncoder
from evoken.models.judge import Judge
from evoken.models.sampling import MOST
from evoken.options import in_range, one_of
from evoken.pictures.drawing import images_of
from evoken.pictures.masks import found_masks
from evoken.pictures.metrics import (
    Score,
    concept_score,
    diversity,
    editability,
    prompt_score,
    reconstruction,
)
from evoken.prompts import KINDS, OTHER
from evoken.words.word import Word

COUNT = 16  # pictures per sentence
# Of each, and of previews and the report's sheets: scores are those of 25 steps (docs/scores.md).
STEPS = 10
# What people are told each score is.
LABELS = {
    "concept": "concept",
    "prompt": "prompt",
    "diversity": "diversity",
    "judge": "judge: recognised",
    "elsewhere": "judge: in other sentences",
    "scene": "judge: scene obeyed",
    "style": "judge: style obeyed",
    "thing": "judge: thing obeyed",
    "beside": f"concept beside a {OTHER}",
    "recoloured": "concept in blue",
    "both": "judge: both there",
    "blue": "judge: same in blue",
    "reconstruction": "CLIP-I, for comparison",
    "editability": "CLIP-T, for comparison",
}
# Those that a ``scorer`` gives in place of the CLIP model.
BY_SCORER = ("concept", "diversity", "beside", "recoloured")


def label(name: str, scorer: str = "") -> str:
    """What people read of a score.

    Args:
        scorer: the name of the network that scored, if it was not the run's CLIP.
    """
    said = LABELS.get(name, name)
    return f"{said}, {scorer}" if scorer and name in BY_SCORER else said


@dataclass(frozen=True)
class Scores:
    """What ``evaluate`` measures; ``None`` for what was not asked for, or cannot be told.

    Attributes:
        concept, prompt, diversity, reconstruction, editability: see ``evoken.pictures.metrics``;
            ``prompt`` and ``editability`` over the kind's other sentences.
        judge: share of pictures in which the judge sees the concept.
        elsewhere: the same of the pictures of the kind's other sentences.
        scene, style, thing: share of pictures in whose sentence there is a scene or background, a
            style or a thing, and in which the judge sees that.
        beside, recoloured: the concept score of pictures with another thing, and in another colour.
        both: share of the former in which the judge sees both things.
        blue: share of the latter in which the judge still sees the concept.
    """

    concept: Score
    prompt: Score
    diversity: Score
    reconstruction: Score
    editability: Score
    judge: Score | None = None
    elsewhere: Score | None = None
    scene: Score | None = None
    style: Score | None = None
    thing: Score | None = None
    beside: Score | None = None
    recoloured: Score | None = None
    both: Score | None = None
    blue: Score | None = None

    def found(self) -> dict[str, Score]:
        """Those that there are, in the order of ``LABELS``."""
        its: dict[str, Score | None] = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: score for name in LABELS if (score := its[name]) is not None}


def sentences(kind: str, thorough: bool) -> tuple[str, ...]:
    """The templates whose pictures ``evaluate`` draws.

    Raises:
        SettingError: there is no such kind, or it has no ``thorough`` ones.
    """
    one_of("kind", kind, tuple(KINDS))
    row = KINDS[kind]
    if thorough and not (row.beside or row.recoloured):
        raise SettingError(f"`thorough` is for objects (this is a {kind}).", "Leave it out.")
    more = (row.beside, row.recoloured) if thorough else ()
    return (*row.samples, *filter(None, more))


def check_count(count: int) -> None:
    """Raise ``SettingError`` unless so many pictures of a sentence can be scored: one has nothing
    to differ from.
    """
    in_range("count", count, 2, MOST)


def evaluate(
    model: Model,
    clip: Clip,
    images: Images,
    word: Word | str,
    kind: str = "object",
    count: int = COUNT,
    seed: int = 0,
    judge: Judge | None = None,
    concept: str = "",
    on_prompt: Callable[[str], object] = lambda prompt: None,
    masks: Masks | None = None,
    scorer: ImageEncoder | None = None,
    thorough: bool = False,
) -> Scores:
    """Draw pictures of a word and score them.

    Args:
        word: a learned word, or an ordinary word.
        count: pictures per prompt, 2 to 1,000.
        concept: what the judge calls the object or style.
        on_prompt: called with every prompt before its pictures are drawn.
        masks: of the images, N x 1 x S x S, 1 all over where an image has none; where the thing is
            then found (``evoken.pictures.masks``).
        scorer: of what ``BY_SCORER`` names, instead of the CLIP model.
        thorough: draw the word beside another thing and in another colour, too; objects only.

    Raises:
        SettingError: ``kind``, ``count`` or ``thorough`` is not possible.
    """
    check_count(count)
    pictures = drawn(model, word, kind, count, seed, thorough, on_prompt)
    return scores_of(pictures, clip, images, kind, judge, concept, masks, scorer)


def drawn(
    model: Model,
    word: Word | str,
    kind: str,
    count: int,
    seed: int,
    thorough: bool = False,
    on_prompt: Callable[[str], object] = lambda prompt: None,
) -> dict[str, Images]:
    """The pictures that scores are made of, by template. Arguments as for ``evaluate``."""
    learned = word if isinstance(word, Word) else None
    found = {}
    for template in sentences(kind, thorough):
        prompt = template.format(learned.placeholder if learned else word)
        on_prompt(prompt)
        found[template] = images_of(model, prompt, learned, count, seed, STEPS)
    return found


def scores_of(
    pictures: Mapping[str, Images],
    clip: Clip,
    images: Images,
    kind: str = "object",
    judge: Judge | None = None,
    concept: str = "",
    masks: Masks | None = None,
    scorer: ImageEncoder | None = None,
) -> Scores:
    """The scores of pictures that ``drawn`` gave. Arguments as for ``evaluate``."""
    row, encoder, is_style = KINDS[kind], scorer or clip, kind == "style"
    plain, edits = pictures[row.plain], {t: pictures[t] for t in row.edits}
    things = None if is_style else thing_masks(images, masks)
    others = {
        name: concept_score(encoder, pictures[template], images, things)
        for name, template in (("beside", row.beside), ("recoloured", row.recoloured))
        if template in pictures
    }
    behind = {t: None if is_style else found_masks(its) for t, its in edits.items()}
    return Scores(
        concept_score(encoder, plain, images, things),
        prompt_score(clip, edits, behind),
        diversity(encoder, plain),
        reconstruction(clip, plain, images),
        editability(clip, edits),
        **(_judged(judge, pictures, kind, concept) if judge is not None else {}),
        **others,
    )


def thing_masks(images: Images, masks: Masks | None) -> Masks:
    """N x 1 x S x S: the masks that images have, and where the thing is found in the others."""
    found = found_masks(images)
    if masks is None:
        return found
    given = masks.amin((1, 2, 3)) < 1
    return torch.where(given[:, None, None, None], masks, found)


def _judged(
    judge: Judge, pictures: Mapping[str, Images], kind: str, concept: str
) -> dict[str, Score]:
    """The judge's shares."""
    row, found = KINDS[kind], dict[str, Score]()
    asked = {"scene": "background", "style": "style", "thing": "object"}
    for name, question in asked.items():
        hits = [its for t in row.edits if (its := obeyed(judge, t, pictures[t], question))]
        if hits and question != kind:
            found[name] = Score.of_groups(hits)
    if not concept:
        return found

    def share(*templates: str) -> Score:
        answers = [judge.answers(pictures[t], kind) for t in templates]
        return Score.of_groups([[one == concept for one in its] for its in answers])

    found["judge"] = share(row.plain)
    found["elsewhere"] = share(*row.edits)
    if row.beside in pictures:
        seen = judge.things(pictures[row.beside])
        found["both"] = Score.of_hits([{concept, OTHER} <= things for things in seen])
    if row.recoloured in pictures:
        found["blue"] = share(row.recoloured)
    return found


def obeyed(judge: Judge, template: str, pictures: Images, question: str) -> Sequence[bool]:
    """Of each picture, whether the judge sees in it what its sentence asks for; nothing where the
    sentence asks for nothing that the judge knows.
    """
    names = [n for n in judge.names[question] if n and re.search(rf"\b{re.escape(n)}\b", template)]
    if not names:
        return []
    asked = max(names, key=len)
    return [answer == asked for answer in judge.answers(pictures, question)]
