"""What ``evoken learn`` does with a run folder: records, previews, samples, word, report."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from PIL.Image import Image

from evoken.arrays import Images, Vectors
from evoken.files import write_json
from evoken.images import grid, to_pictures
from evoken.judge import Judge
from evoken.metrics import Score, evaluate, pictures_of, reconstruction
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.prompts import EDITING_PROMPTS, RECONSTRUCTION_PROMPT
from evoken.report import write_card, write_report
from evoken.run import Run
from evoken.textual_inversion.learn import Learner, Record, learn

PREVIEWS = 4  # pictures per preview, and per row of a sample sheet
PICTURE_SEED = 0  # of every preview and sample, so that pictures of all runs can be compared
SHEET_SCALE = 128  # small pictures are enlarged to about this side in sheets


@dataclass(frozen=True)
class Progress:
    """One generation as a user wants to see it."""

    learner: Learner
    record: Record
    clip_score: Score | None  # of the preview made after this generation


def learn_into(run: Run, model: Model, clip: Clip | None) -> Iterator[Progress]:
    """Learn, or go on learning, the word of a run folder; yields after every generation.

    The folder holds every finished generation at any time: an interrupted run loses at most the
    generation it was in.
    """
    settings = run.settings
    images = run.images(model.size)
    records = run.records()
    state = None
    for state, record in learn(settings, model, images, clip, records):
        run.append(record)
        score = None
        due = settings.preview_every and record.generation % settings.preview_every == 0
        if due or state.finished:
            run.save_word(state.vectors)
            score = preview(run, model, clip, state.vectors, record.generation)
        yield Progress(state, record, score)
    if state is None:  # the records were complete already
        state = Learner(settings, model, images, clip)
        state.replay(records)
    finish(run, model, state)


def preview(
    run: Run, model: Model, clip: Clip | None, vectors: Vectors, generation: int
) -> Score | None:
    """Pictures of the word at fixed seeds, and their CLIP similarity to the images."""
    settings = run.settings
    prompt = RECONSTRUCTION_PROMPT[settings.kind].format(settings.placeholder)
    calls = model.calls
    pictures = pictures_of(model, prompt, settings.placeholder, vectors, PREVIEWS, PICTURE_SEED)
    model.calls = calls  # previews are looking, not learning: no budget pays for them
    run.save_picture(f"previews/{generation:04}", sheet(pictures, PREVIEWS))
    return None if clip is None else reconstruction(clip, pictures, run.images(model.size))


def finish(run: Run, model: Model, state: Learner) -> None:
    """Word, sample sheets before and after, model card and report."""
    settings = run.settings
    run.save_word(state.vectors)
    start = state.subspace.origin
    prompts = (RECONSTRUCTION_PROMPT[settings.kind], *EDITING_PROMPTS[settings.kind])
    for i, template in enumerate(prompts):
        prompt = template.format(settings.placeholder)
        for name, vectors in (("after", state.vectors), ("before", start)):
            pictures = pictures_of(
                model, prompt, settings.placeholder, vectors, PREVIEWS, PICTURE_SEED
            )
            run.save_picture(f"samples/{i:02}-{name}", sheet(pictures, PREVIEWS))
    write_card(run)
    write_report(run)


def sheet(pictures: Images, columns: int) -> Image:
    """Pictures side by side, small ones enlarged by whole pixels."""
    return grid(to_pictures(pictures), columns, scale=max(1, SHEET_SCALE // pictures.shape[-1]))


def evaluate_run(
    run: Run, model: Model, clip: Clip, judge: Judge | None, concept: str, count: int, seed: int
) -> dict[str, tuple[Score, Score]]:
    """The scores of the word at its start and as learned, also written to ``scores.json``."""
    settings, images = run.settings, run.images(model.size)
    learner = Learner(settings, model, images, clip)
    results = [
        evaluate(
            model, clip, images, settings.placeholder, vectors, settings.kind, count, seed,
            judge, concept,
        )
        for vectors in (learner.subspace.origin, run.word().vectors)
    ]  # fmt: skip
    table = {
        name: (getattr(results[0], name), getattr(results[1], name))
        for name in ("reconstruction", "editability", "judge")
        if getattr(results[0], name) is not None
    }
    values = {name: [asdict(score) for score in pair] for name, pair in table.items()}
    write_json(
        run.path / "scores.json", {"count": count, "seed": seed, "start_and_learned": values}
    )
    return table
