"""A start that the objective itself chooses, and that is never worse than no word at all."""

from collections.abc import Sequence

import numpy as np
import torch

from evoken.arrays import Images, Losses, Vectors
from evoken.evaluation.chunks import Evaluation, Objective
from evoken.evaluation.evaluator import Evaluator
from evoken.models.base import Model, Vocabulary
from evoken.models.clip import Clip
from evoken.textual_inversion.initialization import NEAREST, candidates, typical_norm
from evoken.textual_inversion.settings import LearnSettings

SHARE = 0.05  # of the budget, that the first round may take
MIXED = 4  # of the best candidates, whose mean is tried as well
FINALISTS = 3  # no word, the best of the first round, and the mixture


class Starts:
    """The choice of a start in two rounds: all candidates on the draws of a generation; then no
    word at all, the best of the first round and a mixture of its best on the validation draws.

    Differs: the paper's start (Eq. 4) weighs words by CLIP alone; decision 13 has what that costs.
    """

    def __init__(self, found: Vectors, vocabulary: Vocabulary) -> None:
        """
        Args:
            found: candidate x vector x width; the first says nothing. Where there are but two, all
                are in the second round, and there is no first one.
        """
        self.candidates, self._vocabulary = found, vocabulary
        self.first, self.second = _rounds(len(found))

    def calls(self, objective: Objective) -> int:
        """What ``evaluated`` takes."""
        return _calls(len(self.candidates), objective)

    def evaluated(self, objective: Objective, evaluator: Evaluator) -> Evaluation:
        """The losses of both rounds, one after the other."""
        losses, calls = np.zeros(0), 0
        if self.first:
            found = evaluator(self.candidates, objective.split(self.first, 0))
            losses, calls = found.losses, found.calls
        for vectors in self._finalists(losses):
            found = evaluator(vectors[None], objective.split_validation())
            losses, calls = np.append(losses, found.losses), calls + found.calls
        return Evaluation(losses, calls=calls)

    def chosen(self, losses: Losses) -> tuple[Vectors, float]:
        """The start, vector x width, and its validation loss, by the losses of both rounds."""
        first, second = np.split(losses, [self.first])
        best = int(np.argmin(_finite(second)))
        return self._finalists(first)[best], float(second[best])

    def _finalists(self, losses: Losses) -> Vectors:
        if not self.first:
            return self.candidates
        order = torch.from_numpy(np.argsort(_finite(losses), kind="stable"))
        mixed = self.candidates[order[:MIXED]].mean(0)
        mixed = typical_norm(mixed, self._vocabulary)
        return torch.stack([self.candidates[0], self.candidates[order[0]], mixed])


def loss_of_nothing(losses: Sequence[float | None]) -> float | None:
    """The validation loss of no word, by the losses that a run's generation 0 recorded; None where
    there was no choice of a start.
    """
    return losses[max(0, len(losses) - FINALISTS)] if losses else None


def _finite(losses: Losses) -> Losses:
    """A candidate that failed is the worst."""
    return np.nan_to_num(losses, nan=np.inf)


def _rounds(candidates: int) -> tuple[int, int]:
    """How many are in each round."""
    return (candidates, FINALISTS) if candidates > 2 else (0, candidates)


def _calls(candidates: int, objective: Objective) -> int:
    """Of both rounds."""
    first, second = _rounds(candidates)
    return (objective.calls(first) if first else 0) + second * objective.validation_calls


def _words(calls: int, objective: Objective, vocabulary: Vocabulary) -> int:
    """How many words a budget pays for in the first round, beside no word and Eq. 4."""
    paid = int(SHARE * calls / objective.calls(1)) - 2
    return max(0, min(NEAREST, len(vocabulary.words), paid))


def calls_of_starts(calls: int, objective: Objective, vocabulary: Vocabulary) -> int:
    """What a budget's choice of a start takes."""
    return _calls(2 + _words(calls, objective, vocabulary), objective)


def starts_of(
    settings: LearnSettings,
    calls: int,
    objective: Objective,
    model: Model,
    images: Images,
    clip: Clip | None,
) -> Starts | None:
    """What a run chooses its start from; None where its settings say what that is.

    Args:
        calls: the budget that the run was planned for.
    """
    if settings.initialization != "lowest" or clip is None:
        return None
    vocabulary = model.vocabulary()
    words = _words(calls, objective, vocabulary)
    found = candidates(clip, images, model, settings.kind, settings.vectors, words)
    return Starts(found, vocabulary)
