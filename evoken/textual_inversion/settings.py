"""Every choice of a learning run, and the presets."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from evoken.errors import SettingError
from evoken.options import above_zero, at_least, known_fields, one_of, preset_values, right_types
from evoken.prompts import KINDS
from evoken.search.table import search_of
from evoken.textual_inversion.initialization import INITIALIZATIONS
from evoken.textual_inversion.subspace import SUBSPACES

OBJECTIVES = ("denoising", "similarity")
WEIGHTINGS = ("relative", "uniform")

# What the paper's text or code does and we hold to be mistakes; the ``paper`` preset corrects them,
# and each can be put back by name. Measured and explained in docs/decisions/0003-paper-preset.md.
MISTAKES = {
    "unit-axes": "PCA axes of length 1: a step is many times as long as a word",
    "no-temperature": "Eq. 4 without a temperature: e_0 is the mean of the vocabulary",
    "unit-norm": "e_0 scaled to length 1 instead of the vocabulary's typical norm",
    "added-mean": "the vocabulary's mean added to every candidate once more",
    "independent-draws": "every candidate judged on random numbers of its own",
    "last-best": "the luckiest candidate of the last generation is the result",
}


@dataclass(frozen=True)
class LearnSettings:
    """The settings of one run; all of them stand in its ``config.json``.

    Attributes:
        placeholder: the string that stands for the word in prompts.
        kind: "object" or "style": which sentences the word is learned in.
        vectors: token embeddings per word.
        initialization, start, temperature: see ``initial_vectors``.
        subspace, axes: see ``build_subspace``; axes 0 means as many as possible, except for
            "identity" at most 256.
        objective: "denoising" (Eq. 1) or "similarity" (whole generations, CLIP).
        search, popsize, sigma: the optimizer, candidates per generation, and how far from the
            centre the first lie, in units of the vocabulary's spread.
        draws, sentences: random draws per generation and different sentences among them.
        chunk: draws per chunk of a generation, the share of work that one worker does at a time.
        t_low, t_high: range of noise levels.
        weighting: of draws: "relative" to the common error at their noise level, or "uniform".
        validation_draws: fixed draws on which the result is chosen.
        calls: budget of denoiser calls, validation included, previews not.
        minutes: budget of time; 0 means none.
        preview_every: generations between previews; 0 means none.
        mistakes: names from MISTAKES.
        seed: of every random number of the run.
    """

    placeholder: str
    kind: str = "object"
    vectors: int = 1
    initialization: str = "attention"
    start: str = ""
    temperature: float = 0.0
    subspace: str = "identity"
    axes: int = 0
    objective: str = "denoising"
    search: str = "gauss-newton"
    popsize: int = 30
    sigma: float = 0.3
    draws: int = 16
    sentences: int = 4
    chunk: int = 2
    t_low: float = 0.2
    t_high: float = 0.9
    weighting: str = "relative"
    validation_draws: int = 64
    calls: int = 12_000
    minutes: float = 0.0
    preview_every: int = 5
    mistakes: tuple[str, ...] = ()
    preset: str = "default"
    seed: int = 0

    def __post_init__(self) -> None:
        right_types(self)
        one_of("kind", self.kind, tuple(KINDS))
        one_of("initialization", self.initialization, INITIALIZATIONS)
        one_of("subspace", self.subspace, SUBSPACES)
        one_of("objective", self.objective, OBJECTIVES)
        one_of("weighting", self.weighting, WEIGHTINGS)
        search = search_of(self.search)
        for mistake in self.mistakes:
            one_of("mistake", mistake, tuple(MISTAKES))
        at_least("vectors", self.vectors, 1)
        at_least("popsize", self.popsize, 4)
        at_least("draws", self.draws, 1)
        at_least("sentences", self.sentences, 1)
        at_least("chunk", self.chunk, 1)
        at_least("validation-draws", self.validation_draws, 1)
        at_least("calls", self.calls, 1)
        at_least("preview-every", self.preview_every, 0)
        at_least("seed", self.seed, 0)
        above_zero("sigma", self.sigma)
        if not 0 <= self.temperature < math.inf:
            raise SettingError("a temperature above 0, or 0 for CLIP's own", str(self.temperature),
                               "Change --temperature.")  # fmt: skip
        if not 0 <= self.minutes < math.inf:
            raise SettingError("minutes above 0", str(self.minutes), "Change --minutes.")
        if not 0 <= self.t_low < self.t_high <= 1:
            raise SettingError("noise levels with 0 <= low < high <= 1",
                               f"{self.t_low} and {self.t_high}",
                               "Change --t-low and --t-high.")  # fmt: skip
        for wrong, what, cure in (
            ("independent-draws" in self.mistakes and search.wants_gram,
             f"a search other than {self.search} with the mistake independent-draws",
             "Add --search cma, or --preset paper."),
            ("independent-draws" in self.mistakes and self.objective == "similarity",
             "the objective denoising with the mistake independent-draws", "Leave it out."),
            ("unit-axes" in self.mistakes and self.subspace != "pca",
             "the subspace pca with the mistake unit-axes", "Add --subspace pca."),
            ("no-temperature" in self.mistakes and self.initialization != "attention",
             "the initialization attention with the mistake no-temperature", "Leave it out."),
            (self.temperature and self.initialization != "attention",
             "the initialization attention with a temperature", "Leave --temperature out."),
            (self.start and self.initialization != "word",
             "the initialization word with a start", "Leave --start or --initialization out."),
        ):  # fmt: skip
            if wrong:
                raise SettingError(what, f"{self.objective}, {self.search}, {self.subspace} and "
                                   f"{self.initialization}", cure)  # fmt: skip
        if self.objective == "similarity" and search.wants_gram:
            raise SettingError("a search that needs losses only with the objective 'similarity'",
                               f"{self.search!r}, which needs residuals",
                               "Add --search sep-cma.")  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dataclasses.asdict(self) | {"mistakes": list(self.mistakes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LearnSettings":
        """From what ``to_dict`` gave; raises ``SettingError`` for unknown names."""
        known_fields(cls, values)
        return cls(**values | {"mistakes": tuple(values.get("mistakes", ()))})


# Where the paper states a value it stands here: popsize 30, 13,000 exploration steps (candidates)
# of 20 passes each, 256 axes of the PCA, sigma 0.5, cross-attention, full covariance.
# Sentences: one per pass, as the official code does. Both presets use the paper's Eq. 1 objective.
_PAPER = {
    "subspace": "pca",
    "axes": 256,
    "search": "cma",
    "popsize": 30,
    "sigma": 0.5,
    "draws": 20,
    "sentences": 20,
    "t_low": 0.0,
    "t_high": 1.0,
    "weighting": "uniform",
    "calls": 13_000 * 20,
    "preset": "paper",
}
PRESETS: dict[str, dict[str, Any]] = {"default": {}, "paper": _PAPER}

# What whole generations have no use for.
_OF_DRAWS = (
    "draws", "sentences", "chunk", "t_low", "t_high", "weighting", "validation_draws",
)  # fmt: skip


def preset(name: str, **changes: Any) -> LearnSettings:
    """The settings of a preset with some changed.

    Raises:
        SettingError: an unknown preset, a value that is not possible, or a change that would be
            without effect.
    """
    chosen = preset_values(PRESETS, name) | changes
    if chosen.get("objective") == "similarity":
        for unused in (n for n in _OF_DRAWS if n in changes):
            raise SettingError("settings that the objective 'similarity' uses", unused,
                               f"Leave --{unused.replace('_', '-')} out.")  # fmt: skip
    suited = search_of(chosen.get("search", LearnSettings.search)).suited
    kind = KINDS.get(chosen.get("kind", LearnSettings.kind))  # an unknown one is refused below
    vectors = {"vectors": kind.vectors} if kind and name == "default" else {}
    return LearnSettings(**{**suited, **vectors, **chosen})
