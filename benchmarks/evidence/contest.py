"""What all methods are given: images, a start, an objective to ask, and calls to spend."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gradient import gradient
from benchmarks.learn import WORD
from evoken.arrays import Coords, Images, Losses, Vectors
from evoken.evaluation.evaluator import Serial
from evoken.models.clip import Clip
from evoken.models.families.latent import LatentModel
from evoken.prompts import KINDS
from evoken.seeds import numpy_generator
from evoken.textual_inversion.draws import Draws, captioned, draw
from evoken.textual_inversion.objective import DenoisingLoss
from evoken.textual_inversion.settings import preset

# Calls after which words are measured.
MARKS = (500, 1_000, 2_000, 4_000, 6_000, 8_000, 10_000, 14_000, 20_000, 28_000, 40_000)
DEFAULT = preset("default", placeholder=WORD)
T_RANGE = (DEFAULT.t_low, DEFAULT.t_high)


class Spent(Exception):  # noqa: N818  # the end of a contest is no error
    """There are no calls left."""


@dataclass(frozen=True)
class Point:
    """A word on the way.

    Attributes:
        calls: denoiser calls so far; a forward and a backward pass count as three.
        seconds: of a core so far.
        loss: held-out.
    """

    calls: int
    seconds: float
    loss: float


class Contest:
    """One method's try at one concept. The method asks and offers words until ``Spent`` ends it.

    Attributes:
        model, clip, images, kind: of the concept.
        captions: of the images, or empty.
        start: vector x width, where every method begins.
        seed: of all random numbers.
        size: the typical size of a component of the vocabulary's embeddings, which learning rates
            are shares of.
        spread: of coordinates, as evoken's subspaces have it: standard normal ones move a vector by
            about as much as words differ.
        most: calls that can be spent.
        word: the last one offered.
        curve: the points at MARKS.
    """

    def __init__(
        self,
        model: LatentModel,
        clip: Clip,
        images: Images,
        start: Vectors,
        seed: int,
        calls: int,
        held_out: Callable[[Vectors], float],
        kind: str = "object",
        captions: Sequence[str] = (),
    ) -> None:
        """
        Args:
            start: that evoken's default chooses.
        """
        self.model, self.clip, self.images, self.kind = model, clip, images, kind
        self.captions = tuple(captions)
        self.latents = model.encode(images)
        self.seed, self.start, self.word = seed, start, start
        self.size = float(model.vocabulary().vectors.std())
        self.spread = model.vocabulary().vectors.double().std(0).numpy()
        self.curve: list[Point] = []
        self._held_out, self.most = held_out, calls
        self._marks = [mark for mark in MARKS if mark <= calls]
        self._objectives: dict[tuple[Any, ...], DenoisingLoss] = {}
        self._passes = 0  # through autograd, in calls
        self._outside, self._pause = model.calls, 0.0  # what no method pays for
        self._began = time.process_time()

    @property
    def calls(self) -> int:
        """Spent so far."""
        return self.model.calls - self._outside + self._passes

    @property
    def seconds(self) -> float:
        """Of a core, spent so far: what else the machine does hardly changes them."""
        return time.process_time() - self._began - self._pause

    def offer(self, word: Vectors) -> None:
        """The method's word as it is now.

        Raises:
            Spent: the calls are.
        """
        self.word = word
        if self._marks and self.calls >= self._marks[0]:
            before, paused, spent = self.model.calls, time.process_time(), self.calls
            self.curve.append(Point(spent, self.seconds, self._held_out(word)))
            while self._marks and spent >= self._marks[0]:
                del self._marks[0]
            self._outside += self.model.calls - before
            self._pause += time.process_time() - paused
        if self.calls >= self.most:
            raise Spent

    def vectors(self, coords: Coords) -> Vectors:
        """Candidate x vector x width, from candidate x (vector * width) around the start."""
        moved = coords.reshape(len(coords), *self.start.shape) * self.spread
        return (self.start.double() + torch.from_numpy(moved)).float()

    def losses(self, words: Vectors, step: int, draws: int, **how: Any) -> Losses:
        """Evoken's own objective, for candidates that share the draws of a step.

        Args:
            how: other arguments of ``DenoisingLoss``.
        """
        objective = self._objective(draws, **how)
        return Serial(objective)(words, objective.split(len(words), step)).losses

    def residuals(self, words: Vectors, step: int, draws: int) -> NDArray[np.float64]:
        """Candidate x entry: the weighted residuals whose mean square is ``losses``, scaled so that
        the sum of squares is the loss.
        """
        found = self._objective(draws).weighted(words, step)
        return np.asarray(found / found.shape[1] ** 0.5)

    @contextmanager
    def global_numbers(self, step: int) -> Iterator[None]:
        """Meanwhile numpy's global generator, the only one that some packages know, is a step's."""
        before = np.random.get_state()  # noqa: NPY002
        seed = int(numpy_generator(self.seed, step, "global").integers(2**32))
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002

    def gradient(self, word: Vectors, step: int, batch: int, weighted: bool = False) -> Vectors:
        """Of Eq. 1, or of evoken's objective, by autograd on so many draws of a step."""
        self._passes += 3 * batch
        how: Any = {"weigh": self._objective(batch).weights} if weighted else {}
        return gradient(self.model, word, self.latents, self._drawn(step, batch, weighted), **how)

    def _drawn(self, step: int, batch: int, weighted: bool) -> Draws:
        t_range, templates = T_RANGE if weighted else (0.0, 1.0), KINDS[self.kind].templates
        drawn = draw(self.seed, step, "gradient", batch, self.latents, templates, t_range, batch)
        return captioned(drawn, self._captions) if self.captions else drawn

    @property
    def _captions(self) -> list[str]:
        """The templates that they give."""
        return [KINDS[self.kind].template(caption, WORD) for caption in self.captions]

    def _objective(self, draws: int, **how: Any) -> DenoisingLoss:
        key = (draws, *sorted(how.items()))
        if key not in self._objectives:
            given: dict[str, Any] = {
                "sentences": DEFAULT.sentences,
                "t_range": T_RANGE,
                "weighting": DEFAULT.weighting,
                "validation_draws": DEFAULT.validation_draws,
                "captions": self._captions,
                "chunk": draws,  # one batch: many solvers ask for one candidate at a time
            }
            self._objectives[key] = DenoisingLoss(
                self.model,
                self.images,
                WORD,
                KINDS[self.kind].templates,
                self.seed,
                draws,
                **given | how,
            )
        return self._objectives[key]


def sketched(residuals: NDArray[np.float64], size: int, seed: int) -> NDArray[np.float64]:
    """Row x size, of row x entry: a random projection that keeps inner products in the mean (a
    count sketch, Charikar et al. 2002).
    """
    entries = residuals.shape[1]
    rng = numpy_generator(seed, 0, "sketch")
    place = rng.integers(size, size=entries)
    sign = rng.choice([-1.0, 1.0], size=entries)
    return np.stack([np.bincount(place, sign * row, size) for row in residuals])


Method = Callable[[Contest], None]


def run(method: Method, contest: Contest) -> Sequence[Point]:
    """Let a method spend what there is; the curve."""
    with suppress(Spent):
        method(contest)
    return contest.curve
