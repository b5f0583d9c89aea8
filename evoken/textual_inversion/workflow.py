"""What ``evoken learn`` does with a run folder: records, previews, samples, word, report."""

from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass

from evoken.drawing import pictures_of, pictures_of_each, sheet
from evoken.errors import SettingError
from evoken.files import write_bytes, write_json
from evoken.images import png
from evoken.metrics import Score, evaluate, reconstruction
from evoken.models.judge import Judge
from evoken.prompts import KINDS
from evoken.run_folder import held
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Learner, Record
from evoken.textual_inversion.report import write_card, write_report

PREVIEWS = 4  # pictures per preview, and per row of a sample sheet
PICTURE_SEED = 0  # of every preview and sample, so that pictures of all runs can be compared


@dataclass(frozen=True)
class Progress:
    """One generation as a user wants to see it."""

    learner: Learner
    record: Record
    clip_score: Score | None  # of the preview made after this generation


def learn_into(run: LearnRun, learner: Learner) -> Generator[Progress]:
    """Learn, or go on learning, the word of a run folder; yields after every generation.

    The folder holds every finished generation at any time: an interrupted run loses at most the
    generation it was in.

    Args:
        learner: a fresh one, made of the run's settings and images.
    """
    with held(run.path):
        learner.replay(run.records())
        if learner.generation >= 0:
            _preview_if_due(run, learner)  # a crash may have come between a record and its preview
        while not learner.finished:
            record = learner.step()
            run.append(record)
            yield Progress(learner, record, _preview_if_due(run, learner))
        finish(run, learner)


def _preview_if_due(run: LearnRun, learner: Learner) -> Score | None:
    every = learner.settings.preview_every
    due = learner.finished or (every and learner.generation % every == 0)
    if not due or run.preview_path(learner.generation).exists():
        return None
    run.save_word(learner)
    return preview(run, learner)


def preview(run: LearnRun, learner: Learner) -> Score | None:
    """Pictures of the word at fixed seeds, and their CLIP similarity to the images."""
    model, settings = learner.model, learner.settings
    prompt = KINDS[settings.kind].plain.format(settings.placeholder)
    calls = model.calls
    pictures = pictures_of(
        model, prompt, settings.placeholder, learner.vectors, PREVIEWS, PICTURE_SEED
    )
    model.calls = calls  # previews are looking, not learning: no budget pays for them
    score = None
    if learner.clip is not None:
        score = reconstruction(learner.clip, pictures, learner.images)
        write_json(run.score_path(learner.generation), asdict(score))
    write_bytes(run.preview_path(learner.generation), png(sheet(pictures, PREVIEWS)))  # at last
    return score


def finish(run: LearnRun, learner: Learner) -> None:
    """Word, sample sheets before and after, model card and report."""
    model, settings = learner.model, learner.settings
    run.save_word(learner)
    names, words = ("after", "before"), (learner.vectors, learner.subspace.origin)
    prompts = KINDS[settings.kind].samples
    for i, template in enumerate(prompts):
        prompt = template.format(settings.placeholder)
        drawn = pictures_of_each(model, prompt, settings.placeholder, words, PREVIEWS, PICTURE_SEED)
        for name, pictures in zip(names, drawn, strict=True):
            write_bytes(run.path / f"samples/{i:02}-{name}.png", png(sheet(pictures, PREVIEWS)))
    write_card(run)
    write_report(run)


def evaluate_run(
    run: LearnRun,
    learner: Learner,
    judge: Judge | None,
    concept: str,
    count: int,
    seed: int,
    on_prompt: Callable[[str], object],
) -> dict[str, tuple[Score, Score]]:
    """The scores of the word at its start and as learned.

    Args:
        on_prompt: told every sentence before its pictures are drawn.

    Raises:
        SettingError: the run has no CLIP model to score with.
    """
    settings, clip = learner.settings, learner.clip
    if clip is None:
        raise SettingError("a CLIP model to score with", "none", "Learn the word with --clip.")
    start, learned = (
        evaluate(
            learner.model, clip, learner.images, settings.placeholder, vectors, settings.kind,
            count, seed, judge, concept, on_prompt,
        )
        for vectors in (learner.subspace.origin, run.word().vectors)
    )  # fmt: skip
    return {
        name: (getattr(start, name), getattr(learned, name))
        for name in ("reconstruction", "editability", "judge")
        if getattr(start, name) is not None
    }


def write_scores(
    run: LearnRun, scores: dict[str, tuple[Score, Score]], count: int, seed: int
) -> None:
    """Write what ``evaluate_run`` found to ``scores.json``."""
    values = {name: [asdict(score) for score in pair] for name, pair in scores.items()}
    write_json(
        run.path / "scores.json", {"count": count, "seed": seed, "start_and_learned": values}
    )
