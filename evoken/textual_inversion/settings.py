"""Every choice of a learning run, and the presets."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from evoken.errors import SettingError
from evoken.textual_inversion.initialization import INITIALIZATIONS
from evoken.textual_inversion.subspace import SUBSPACES

KINDS = ("object", "style")
OBJECTIVES = ("denoising", "similarity")
WEIGHTINGS = ("relative", "uniform")
SEARCHES = ("cma", "sep-cma", "zero-order", "gauss-newton", "random")

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
        subspace, axes: see ``build_subspace``; axes 0 means as many as possible, at most 256.
        objective: "denoising" (Eq. 1) or "similarity" (whole generations, CLIP).
        search, popsize, sigma: the optimizer, candidates per generation, and how far from the
            centre the first lie, in units of the vocabulary's spread.
        draws, sentences: random draws per generation and different sentences among them.
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
        _one_of("kind", self.kind, KINDS)
        _one_of("initialization", self.initialization, INITIALIZATIONS)
        _one_of("subspace", self.subspace, SUBSPACES)
        _one_of("objective", self.objective, OBJECTIVES)
        _one_of("weighting", self.weighting, WEIGHTINGS)
        _one_of("search", self.search, SEARCHES)
        for mistake in self.mistakes:
            _one_of("mistake", mistake, tuple(MISTAKES))
        _at_least("vectors", self.vectors, 1)
        _at_least("popsize", self.popsize, 4)
        _at_least("draws", self.draws, 1)
        _at_least("sentences", self.sentences, 1)
        _at_least("validation-draws", self.validation_draws, 1)
        _at_least("calls", self.calls, 1)
        _at_least("preview-every", self.preview_every, 0)
        _at_least("seed", self.seed, 0)
        if not self.sigma > 0:
            raise SettingError("a sigma above 0", str(self.sigma), "Change --sigma.")
        if self.temperature < 0:
            raise SettingError("a temperature above 0, or 0 for CLIP's own", str(self.temperature),
                               "Change --temperature.")  # fmt: skip
        if self.minutes < 0:
            raise SettingError("minutes above 0", str(self.minutes), "Change --minutes.")
        if not 0 <= self.t_low < self.t_high <= 1:
            raise SettingError("noise levels with 0 <= low < high <= 1",
                               f"{self.t_low} and {self.t_high}",
                               "Change --t-low and --t-high.")  # fmt: skip
        if self.objective == "similarity" and self.search == "gauss-newton":
            raise SettingError("a search that needs losses only with the objective 'similarity'",
                               "'gauss-newton', which needs residuals",
                               "Add --search sep-cma.")  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dataclasses.asdict(self) | {"mistakes": list(self.mistakes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LearnSettings":
        """From what ``to_dict`` gave; raises ``SettingError`` for unknown names."""
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SettingError("known settings", ", ".join(unknown), "Use this version's settings.")
        return cls(**values | {"mistakes": tuple(values.get("mistakes", ()))})


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(f"a {name} of {', '.join(choices)}", repr(value), "Use one of these.")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise SettingError(f"{name} of at least {least}", str(value), f"Change --{name}.")


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

# What suits a search, where neither preset nor user says otherwise: Gauss-Newton's model averages
# the draws of many generations, so it prefers more directions; the others rank on these draws.
_SUITED = {"gauss-newton": {"popsize": 61, "draws": 8}}


def preset(name: str, **changes: Any) -> LearnSettings:
    """The settings of a preset with some changed; raises ``SettingError`` for an unknown preset."""
    if name not in PRESETS:
        raise SettingError(f"a preset of {', '.join(PRESETS)}", repr(name), "Use one of these.")
    chosen = PRESETS[name] | changes
    search = chosen.get("search", LearnSettings.search)
    return LearnSettings(**_SUITED.get(search, {}) | chosen)
