"""The learning loop: ask for candidates, evaluate them, tell the search; a generator of records."""

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from evoken.annotations import NONE, Annotations
from evoken.arrays import Coords, Images, Vectors
from evoken.errors import SearchError, SettingError, WordError, shown
from evoken.evaluation.chunks import Evaluation
from evoken.evaluation.evaluator import Evaluator, Serial
from evoken.models.base import Model, Vocabulary
from evoken.models.batches import one_thread_each
from evoken.models.clip import Clip
from evoken.models.distilled import check_learnable
from evoken.prompts import KINDS
from evoken.search.table import search_of
from evoken.seeds import torch_generator
from evoken.textual_inversion.checks import check_images
from evoken.textual_inversion.hearing import WIDE, heard_directions, hears_length
from evoken.textual_inversion.initialization import initial_vectors, typical_norms
from evoken.textual_inversion.recipe import build_objective
from evoken.textual_inversion.settings import LearnSettings
from evoken.textual_inversion.starts import Starts, calls_of_starts, starts_of
from evoken.textual_inversion.steps import first_steps
from evoken.textual_inversion.subspace import Subspace, axes_used, build_subspace
from evoken.words.word import Word

PLACEHOLDER = re.compile(r"<[A-Za-z0-9._-]+>")


@dataclass(frozen=True)
class Record:
    """What one generation did; a run's records are all that is needed to continue it.

    Attributes:
        generation: 0 is the start, before any search.
        calls: denoiser calls so far, without previews.
        seconds: time so far, without previews.
        losses: of the candidates; for generation 0, of those for the start (see ``Starts``), if
            there was a choice.
        gram: see ``Evaluation``; only for searches that want it.
        validation: loss of the search's centre on the validation draws.
        sigma: the search's step size after this generation.
        norm: mean length of the centre's vectors.
    """

    generation: int
    calls: int
    seconds: float
    losses: tuple[float | None, ...]
    gram: tuple[tuple[float | None, ...], ...] | None
    validation: float
    sigma: float
    norm: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; a failed candidate's loss is null."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Record":
        """From what ``to_dict`` gave."""
        gram = values["gram"]
        rows = None if gram is None else tuple(tuple(row) for row in gram)
        return cls(**values | {"losses": tuple(values["losses"]), "gram": rows})

    def evaluation(self) -> Evaluation:
        """What the search was told."""
        gram = None if self.gram is None else np.stack([_to_array(row) for row in self.gram])
        return Evaluation(_to_array(self.losses), gram)


def _to_row(values: np.ndarray) -> tuple[float | None, ...]:
    """As JSON can hold it: failures are null."""
    return tuple(x if math.isfinite(x) else None for x in values.tolist())


def _to_array(row: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if x is None else x for x in row], dtype=np.float64)


def calls_in_all(records: Sequence[Record], budget: int) -> int:
    """How many calls a run will take: as many whole generations as its budget pays for, which
    cannot be told before the first one.
    """
    if len(records) < 2:
        return budget
    start, cost = records[0].calls, cost_of_generation(records)
    return start + (budget - start) // cost * cost


def cost_of_generation(records: Sequence[Record]) -> int:
    """Calls that every generation takes; known once one is done."""
    return records[1].calls - records[0].calls


def seconds_left(record: Record, total_calls: int, minutes: float) -> float:
    """How long a run will still learn at its pace so far.

    Args:
        record: its last one.
        total_calls: of the whole run.
        minutes: its budget of time; 0 for none.
    """
    left = max(0, total_calls - record.calls) * record.seconds / max(record.calls, 1)
    return min(left, max(0, minutes * 60 - record.seconds)) if minutes else left


class Learner:
    """One run's state: subspace, objective, search, and the best centre so far.

    Everything is rebuilt from settings and records, so a resumed run equals an uninterrupted one.
    """

    def __init__(
        self,
        settings: LearnSettings,
        model: Model,
        images: Images,
        clip: Clip | None,
        evaluator: Evaluator | None = None,
        planned_calls: int = 0,
        annotations: Annotations = NONE,
        learned: Word | None = None,
    ) -> None:
        """
        Args:
            images: N x 3 x S x S, S the model's size.
            clip: for initialisations and objectives that need one.
            evaluator: where candidates are evaluated; by default here. Changes no result.
            planned_calls: the budget that the search's step sizes are planned for; 0 for that of
                the settings. A run that is extended keeps its first plan, or its records would not
                be those of its search.
            annotations: of the images.
            learned: the word to start from with the initialization "file"; by default the one that
                the settings' ``start`` names.

        Raises:
            WordError: the placeholder or the word to start from cannot be used with this model.
            SettingError: settings that do not fit the model.
            ModelError: it is distilled.
        """
        check_learnable(getattr(model, "learned_on", ""), model.spec.name)
        check_placeholder(settings.placeholder, model)
        self.settings, self.model, self.images, self.clip = settings, model, images, clip
        started = time.monotonic()
        self.objective = build_objective(settings, model, images, clip, annotations)
        self.evaluator = evaluator or Serial(self.objective)
        self.calls = self._setup_calls = self.objective.setup_calls
        with one_thread_each():
            self.subspace = _subspace(settings, model, images, clip, learned)
            planned = planned_calls or settings.calls
            self._starts = starts_of(settings, planned, self.objective, model, images, clip)
        row, dimension = search_of(settings.search), self.subspace.dimension
        kind = row.load()
        candidates = kind.candidates(settings.popsize, dimension)
        self.cost = self.objective.calls(candidates) + self.objective.validation_calls
        self.generations = self._generations(settings.calls)
        if not self.generations:
            lower = "`popsize`" if settings.objective == "similarity" else "`popsize` or `draws`"
            if settings.objective != "similarity" and self._calls_at_start() >= settings.calls:
                lower = "`validation_draws`"
            raise SettingError(
                f"`calls` must be at least {self._least_calls():,}, the budget of a start and one "
                f"generation (got {settings.calls:,}).",
                f"Raise `calls`, or lower {lower}.",
            )
        with one_thread_each():
            heard = (hears_length(m, settings.placeholder) for m in self.objective.models)
            length_heard = not settings.sigma and any(heard)
        sigma = first_steps(settings, length_heard)
        # What is heard at the start is worth more to short steps, which stay near it.
        self._listens = row.hears and (dimension > WIDE or length_heard)
        self.search = kind(
            *(dimension, settings.seed, settings.popsize, sigma), self._generations(planned)
        )
        self.seconds, self.generation = time.monotonic() - started, -1
        self.best_validation, self.best_generation = math.inf, 0
        self._lowest, self._improved = math.inf, 0  # validation loss, and when it was found
        self.best: Coords = self.search.center

    def _generations(self, calls: int) -> int:
        """How many generations a budget pays for."""
        return max(0, (calls - self._calls_at_start()) // self.cost)

    def _calls_at_start(self) -> int:
        if self._starts:
            return self._setup_calls + self._starts.calls(self.objective)
        return self._setup_calls + self.objective.validation_calls

    def _least_calls(self) -> int:
        """The smallest budget that is enough; of a larger one, the choice of a start takes more."""
        least, needed = 0, self.cost + self._calls_at_start()
        while self._starts and needed > least:
            least, vocabulary = needed, self.model.vocabulary()
            start = calls_of_starts(least, self.objective, vocabulary)
            needed = self._setup_calls + start + self.cost
        return needed

    @property
    def total_calls(self) -> int:
        """Calls of the whole run, unless its budget of time ends it before."""
        return self._calls_at_start() + self.generations * self.cost

    @property
    def finished(self) -> bool:
        """Whether a budget is used up, or the settings' patience with a loss that stays flat."""
        ended = self.out_of_time or self.out_of_patience
        return self.generation >= self.generations or (self.generation >= 0 and ended)

    @property
    def out_of_time(self) -> bool:
        """Whether the settings' minutes are over."""
        return bool(self.settings.minutes) and self.seconds >= self.settings.minutes * 60

    @property
    def out_of_patience(self) -> bool:
        """Whether the loss has been flat for as many generations as the settings allow."""
        patience = self.settings.patience
        return bool(patience) and self.generation - self._improved >= patience

    @property
    def vectors(self) -> Vectors:
        """Vector x width: the word, at the centre that did best on the validation draws."""
        return self.subspace.vectors(self.best[None])[0]

    @property
    def word(self) -> Word:
        """The word as it is now."""
        return Word(self.settings.placeholder, self.vectors, self.model.encoders)

    @property
    def no_word(self) -> Vectors:
        """Vector x width: what says nothing, where the word would be."""
        return self.model.nothing().repeat(self.settings.vectors, 1)

    @property
    def tries_no_word(self) -> bool:
        """Whether it is among those that the start is chosen from."""
        return self._starts is not None

    @property
    def start(self) -> Word:
        """The word that the search began with."""
        return Word(self.settings.placeholder, self.subspace.origin, self.model.encoders)

    @one_thread_each()
    def replay(self, records: Sequence[Record]) -> None:
        """Bring the state to where the records end."""
        for record in records:
            if record.generation:
                self._ask()
                self.search.tell(record.evaluation())
            elif self._starts:
                self._begin(self._starts, record.evaluation())
            self._note(record)

    @one_thread_each()
    def step(self) -> Record:
        """Do one generation.

        Raises:
            SearchError: every candidate failed.
        """
        started = time.monotonic()
        if self.generation < 0 and self._starts:
            return self._chosen_start(self._starts, started)
        evaluation = Evaluation(np.zeros(0))
        if self.generation >= 0:
            vectors = self.subspace.vectors(self._ask())
            wants_gram = search_of(self.settings.search).wants_gram
            chunks = self.objective.split(len(vectors), self.generation + 1, wants_gram)
            evaluation = self.evaluator(vectors, chunks)
            self.search.tell(evaluation)
        center = self.subspace.vectors(self._result()[None])
        validated = self.evaluator(center, self.objective.split_validation())
        calls = evaluation.calls + validated.calls
        return self._recorded(evaluation, calls, float(validated.losses[0]), started)

    def _chosen_start(self, starts: Starts, started: float) -> Record:
        """The record of generation 0 where there is a choice."""
        evaluation = starts.evaluated(self.objective, self.evaluator)
        validation = self._begin(starts, evaluation)
        return self._recorded(evaluation, evaluation.calls, validation, started)

    def _begin(self, starts: Starts, evaluation: Evaluation) -> float:
        """Start where the losses are lowest; returns the validation loss there."""
        start, validation = starts.chosen(evaluation.losses)
        moved = replace(self.subspace, origin=start)
        self.subspace = _limited(moved, self.settings.fidelity, self.model.vocabulary())
        return validation

    def _ask(self) -> Coords:
        """The search's candidates. Before the first it is told what is heard at the start, if it
        listens.
        """
        s = self.settings
        if self._listens and self.generation == 0:
            sentence = KINDS[s.kind].plain.format(s.placeholder)
            found = heard_directions(self.model, self.subspace, sentence, s.placeholder, s.seed)
            self.search.hear(found)
        return self.search.ask()

    def _recorded(
        self, evaluation: Evaluation, calls: int, validation: float, started: float
    ) -> Record:
        if not math.isfinite(validation):
            raise SearchError(
                f"the validation loss is not finite (got {validation}).",
                "Set `precision` to float32, and lower `sigma`.",
            )
        gram = evaluation.gram
        center = self.subspace.vectors(self._result()[None])
        record = Record(
            self.generation + 1,
            self.calls + calls,
            self.seconds + time.monotonic() - started,
            _to_row(evaluation.losses),
            None if gram is None else tuple(_to_row(row) for row in gram),
            validation,
            self.search.sigma,
            float(center.norm(dim=2).mean()),
        )
        self._note(record)
        return record

    def _result(self) -> Coords:
        return self.search.best if "last-best" in self.settings.mistakes else self.search.center

    def _note(self, record: Record) -> None:
        self.generation, self.calls, self.seconds = (
            record.generation,
            record.calls,
            record.seconds,
        )
        if record.validation < self._lowest:
            self._lowest, self._improved = record.validation, record.generation
        always = "last-best" in self.settings.mistakes
        if always or record.validation < self.best_validation:
            self.best_validation, self.best_generation = record.validation, record.generation
            self.best = self._result()


def learn(
    settings: LearnSettings,
    model: Model,
    images: Images,
    clip: Clip | None = None,
    records: Sequence[Record] = (),
    evaluator: Evaluator | None = None,
    annotations: Annotations = NONE,
) -> Iterator[tuple[Learner, Record]]:
    """Learn a word; yields the learner and a record after every generation. ``learner.word`` is the
    best word so far.

    Args:
        settings: see ``LearnSettings`` and ``preset``.
        model: any ``evoken.models.base.Model``.
        images: N x 3 x S x S in [-1, 1].
        clip: for settings that need a CLIP model, such as the default start.
        records: of an interrupted run with the same settings and images, to continue it.
        evaluator: where candidates are evaluated, such as ``Processes``; changes no result.
        annotations: of the images, as ``load_images(...).annotations`` has them.

    Raises:
        EvokenError: an argument cannot be used.

    Source: Fei et al. 2023, section 3.
    """
    check_images(images, model.size)
    learner = Learner(settings, model, images, clip, evaluator, 0, annotations)
    learner.replay(records)
    while not learner.finished:
        record = learner.step()
        yield learner, record


def check_placeholder(placeholder: str, model: Model) -> None:
    """Raise ``WordError`` unless the placeholder is a new token that every tool can read."""
    if not PLACEHOLDER.fullmatch(placeholder):
        raise WordError(
            "`placeholder` must be like <teapot>: letters from a to z, digits, '.', '_' or '-' in "
            f"<> (got {shown(placeholder)})."
        )
    if model.has_token(placeholder):
        raise WordError(
            f"`placeholder` must be new to the model (got {shown(placeholder)}, which is in its "
            "vocabulary).",
            "Choose another one.",
        )


def _subspace(
    s: LearnSettings, model: Model, images: Images, clip: Clip | None, learned: Word | None
) -> Subspace:
    temperature = 1.0 if "no-temperature" in s.mistakes else s.temperature or None
    generator = torch_generator(s.seed, 0, "initialization")
    origin = initial_vectors(
        s.initialization,
        model,
        clip,
        images,
        s.kind,
        s.vectors,
        generator,
        s.start,
        temperature,
        learned,
    )
    if "unit-norm" in s.mistakes:
        origin = torch.nn.functional.normalize(origin, dim=1)
    vocabulary = model.vocabulary()
    if "added-mean" in s.mistakes:
        origin = origin + vocabulary.vectors.mean(0)
    axes = axes_used(s.subspace, s.axes, len(vocabulary.words), vocabulary.parts)
    built = build_subspace(
        s.subspace,
        origin,
        vocabulary.vectors,
        axes,
        torch_generator(s.seed, 0, "subspace"),
        vocabulary.parts,
        s.stretch,
        unit_axes="unit-axes" in s.mistakes,
    )
    return _limited(built, s.fidelity, vocabulary)


def _limited(subspace: Subspace, fidelity: float, vocabulary: Vocabulary) -> Subspace:
    """With the limit of length that the fidelity means, if it means one."""
    if not fidelity:
        return subspace
    # A learned word to start from may be longer than that already.
    parts = subspace.origin.split(list(vocabulary.parts), 1)
    given = [float(part.norm(dim=1).max()) for part in parts]
    norms = zip(typical_norms(vocabulary), given, strict=True)
    longest = [max(fidelity * norm, own) for norm, own in norms]
    return replace(subspace, longest=tuple(zip(vocabulary.parts, longest, strict=True)))
