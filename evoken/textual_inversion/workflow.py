"""Learning a word into a run folder: records, previews, samples, word, report."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import ceil, isfinite

import torch

from evoken.files import write_bytes, write_json
from evoken.images import png
from evoken.pictures.drawing import images_of, images_of_each, sheet
from evoken.pictures.metrics import Score
from evoken.pictures.scoring import STEPS
from evoken.pictures.shown import NAME, shown_score
from evoken.textual_inversion.card import write_card
from evoken.textual_inversion.folder import PREVIEWS, LearnRun
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.report import write_report

PICTURE_SEED = 0  # of every preview and sample, so that pictures of all runs can be compared


def loss_of_no_word(run: LearnRun, learner: Learner) -> float | None:
    """What the word has to be better than; measured once, and paid for by no budget. None where it
    is no number, and before the first generation of a run that tries no word as a start.
    """
    if (known := run.loss_of_no_word()) is not None or learner.tries_no_word:
        return known
    calls = learner.model.calls
    found = learner.objective.validate(learner.no_word)
    learner.model.calls = calls
    if not isfinite(found):
        return None
    run.keep_loss_of_no_word(found)
    return found


def preview_if_due(run: LearnRun, learner: Learner, last: bool = False) -> Score | None:
    """The preview of the generation just done, where one is wanted and not there; its score.

    Args:
        last: the run ends here, whatever its budget.
    """
    every = learner.settings.preview_every
    due = last or learner.finished or (every and learner.generation % every == 0)
    if not due or run.preview_path(learner.generation).exists():
        return None
    run.save_word(learner)
    return preview(run, learner)


def preview(run: LearnRun, learner: Learner) -> Score | None:
    """Pictures of the word at fixed seeds, and the score that learning shows."""
    model, settings = learner.model, learner.settings
    calls = model.calls
    drawn = [
        images_of(model, prompt, learner.word, PREVIEWS, PICTURE_SEED, STEPS)
        for prompt in settings.previewed_prompts  # a row each
    ]
    pictures = torch.cat(drawn)
    model.calls = calls  # previews are looking, not learning: no budget pays for them
    score = None
    if learner.clip is not None:
        masks = run.annotations().masks
        score = shown_score(learner.clip, pictures, learner.images, settings.kind, masks)
        write_json(run.score_path(learner.generation), {"score": NAME} | asdict(score))
    write_bytes(run.preview_path(learner.generation), png(sheet(pictures, PREVIEWS)))  # at last
    return score


@dataclass(frozen=True)
class Sheet:
    """One of the report's sheets as it is drawn."""

    number: int  # from 1
    total: int

    def __str__(self) -> str:
        return f"sheet {self.number} of {self.total} for the report"


def write_result(run: LearnRun, learner: Learner) -> Iterator[Sheet]:
    """Word, sample sheets before and after, model card and report; yields after every sheet.

    A sheet that is there stays: an interrupted run loses at most the one that it was drawing.
    """
    model, settings = learner.model, learner.settings
    run.end(learner)
    words = {"after": learner.word, "before": learner.start}
    prompts = settings.shown_prompts if settings.samples else ()
    for i, prompt in enumerate(prompts):
        if not all(run.sample_path(i, name).exists() for name in words):
            calls = model.calls
            # Both, even if one is there: drawn alone it might be rounded differently.
            drawn = images_of_each(
                *(model, prompt, list(words.values()), settings.samples, PICTURE_SEED, STEPS)
            )
            model.calls = calls  # as with previews
            for name, pictures in zip(words, drawn, strict=True):
                write_bytes(run.sample_path(i, name), png(sheet(pictures, PREVIEWS)))
        yield Sheet(i + 1, len(prompts))
    write_card(run)
    write_report(run)


def calls_of_previews(learner: Learner, last: int) -> int:
    """Calls of all previews that are to come, which no budget pays for.

    Args:
        last: the generation after which the run ends.
    """
    settings, every = learner.settings, learner.settings.preview_every
    # Of generation 0, of those that are due, and of the last.
    done = 1 + learner.generation // every if every and learner.generation >= 0 else 0
    previews = 1 + ceil(last / every) - done if every else 1
    pictures = previews * PREVIEWS * len(settings.previewed_prompts)
    return pictures * STEPS * learner.model.guidance_calls


def calls_of_no_word(learner: Learner, known: bool) -> int:
    """Calls of the report's loss of no word, which come before the search.

    Args:
        known: whether the run has it already.
    """
    return 0 if known or learner.tries_no_word else learner.objective.validation_calls


def calls_of_sheets(learner: Learner) -> int:
    """Calls of the report's sheets, which come after the search."""
    pictures = 2 * learner.settings.samples * len(learner.settings.shown_prompts)
    return pictures * STEPS * learner.model.guidance_calls
