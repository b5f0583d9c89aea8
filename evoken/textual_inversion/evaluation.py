"""The scores of a run's word, and what it is better than by its loss."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import isfinite
from statistics import fmean
from typing import Any

from evoken.errors import SettingError
from evoken.files import write_json
from evoken.models.image_encoder import ImageEncoder
from evoken.models.judge import Judge
from evoken.pictures.metrics import Score
from evoken.pictures.scoring import STEPS, evaluate, sentences
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Learner
from evoken.words.word import Word, fitted

WORDS = 2  # whose pictures are drawn: the start, and the learned word


@dataclass(frozen=True)
class Evaluated:
    """What was found of a run's word.

    Attributes:
        calls: of the denoiser, for pictures and losses.
        losses: mean losses on the validation draws: "no word", "start" and "learned"; None where
            one is not finite.
        gains: by how much the learned word's loss is below that of the start and of no word, over
            the same draws: "over start" and "over no word"; None where one of the two is not
            finite.
        scores: by name, of the start and of the learned word.
    """

    calls: int
    losses: dict[str, float | None]
    gains: dict[str, Score | None]
    scores: dict[str, tuple[Score, Score]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, names without spaces."""
        return {
            "calls": self.calls,
            "losses": {name.replace(" ", "_"): loss for name, loss in self.losses.items()},
            "gains": {
                name.replace(" ", "_"): gain and asdict(gain) for name, gain in self.gains.items()
            },
        }


def cost(learner: Learner, count: int, thorough: bool) -> tuple[int, int]:
    """How many pictures an evaluation draws, and the calls of the denoiser that it takes in all."""
    pictures = WORDS * count * len(sentences(learner.settings.kind, thorough))
    losses = 3 * learner.objective.validation_calls
    return pictures, pictures * STEPS * learner.model.guidance_calls + losses


def evaluate_run(
    run: LearnRun,
    learner: Learner,
    word: Word,
    judge: Judge | None,
    concept: str,
    count: int,
    seed: int,
    on_prompt: Callable[[str], object],
    scorer: ImageEncoder | None = None,
    thorough: bool = False,
) -> Evaluated:
    """The scores of the word at its start and as learned.

    Args:
        word: that the run learned, or one of its way.
        on_prompt: told every sentence before its pictures are drawn.
        scorer, thorough: see ``evaluate``.

    Raises:
        SettingError: the run has no CLIP model to score with.
        WordError: the word is for other text encoders.
    """
    settings, clip = learner.settings, learner.clip
    if clip is None:
        raise SettingError(
            "this run has no CLIP model to score with.",
            "Learn the word with one: evoken learn FOLDER --clip CLIP",
        )
    learner.replay(run.records()[:1])  # a start may have been chosen in generation 0
    before, word = _calls(learner), fitted(word, learner.model)
    vectors = {"no word": learner.no_word, "start": learner.start.vectors, "learned": word.vectors}
    drawn = {n: learner.objective.validation_losses(v).tolist() for n, v in vectors.items()}
    # Before pictures are drawn, which takes long.
    losses = {n: mean if isfinite(mean := fmean(found)) else None for n, found in drawn.items()}
    gains = {
        f"over {name}": None
        if None in (losses[name], losses["learned"])
        else Score.of_gain(drawn[name], drawn["learned"])
        for name in ("start", "no word")
    }
    start, learned = (
        evaluate(
            learner.model,
            clip,
            learner.images,
            one,
            settings.kind,
            count,
            seed,
            judge,
            concept,
            on_prompt,
            run.annotations().masks,
            scorer,
            thorough,
        ).found()
        for one in (learner.start, word)
    )
    return Evaluated(
        _calls(learner) - before,
        losses,
        gains,
        {name: (start[name], learned[name]) for name in start},
    )


def _calls(learner: Learner) -> int:
    """So far, of all models that the objective asks."""
    return sum(model.calls for model in learner.objective.models)


def write_scores(run: LearnRun, found: Evaluated, count: int, seed: int, scorer: str = "") -> None:
    """Write what ``evaluate_run`` found to ``scores.json``.

    Args:
        scorer: the name of the network that scored; "" for CLIP.
    """
    values = {name: [asdict(score) for score in pair] for name, pair in found.scores.items()}
    about: dict[str, Any] = {"word": run.word_hash()}
    about |= {"count": count, "seed": seed, "steps": STEPS}
    about |= {"scorer": scorer} if scorer else {}
    write_json(run.scores_path, about | found.to_dict() | {"start_and_learned": values})
