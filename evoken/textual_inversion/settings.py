"""Every choice of a learning run, and the presets."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from evoken.errors import SettingError, shown
from evoken.options import (
    ABOUT,
    BUDGET,
    UNSET,
    check,
    documented,
    fill,
    make,
    one_of,
    open_setting,
    preset_values,
    to_dict,
)
from evoken.prompts import KINDS, holds, pieces
from evoken.search.table import SEARCHES, search_of, sigmas, suited

# How the start is found, and whether CLIP compares the vocabulary with the images for it.
INITIALIZATIONS = {
    **{"lowest": True, "attention": True, "nearest": True},
    **{"word": False, "file": False, "random": False},
}
SUBSPACES = ("identity", "pca", "prior", "normal")
OBJECTIVES = ("denoising", "similarity")
WEIGHTINGS = ("relative", "uniform")
# First steps that are about as long as words, in spreads of the vocabulary; and those within a
# limit of length, as a share of it: longer ones would only turn the word.
SHORT, WITHIN = 0.3, 0.15
# Denoiser calls of a run.
EFFORTS = {"quick": 3_000, "normal": 12_000, "thorough": 48_000}

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

# Where the paper states a value it stands here: popsize 30, 13,000 exploration steps (candidates)
# of 20 passes each, 256 axes of the PCA, sigma 0.5, cross-attention, full covariance.
# Sentences: one per pass, as the official code does. Both presets use the paper's Eq. 1 objective.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "vectors": 1,
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
    },
}
# What whole generations have no use for.
_OF_DRAWS = (
    "draws",
    "sentences",
    "chunk",
    "t_low",
    "t_high",
    "weighting",
    "validation_draws",
    "masks",
    "captions",
    "also",
)

_about = partial(open_setting, panel=ABOUT)
_budget = partial(open_setting, panel=BUDGET)
_expert = open_setting


@documented
@dataclass(frozen=True)
class LearnSettings:
    """The settings of one run, as its ``config.json`` records them.

    Fields that are not given come from the preset, or suit the search, the kind of concept and the
    start: with the initialization 'file' and no ``vectors``, the file is read to count its vectors.

    Raises:
        SettingError: a value is not possible, or settings do not go together.
        WordError: the file that ``start`` names has to be read, and cannot be.
    """

    placeholder: str = _about(
        UNSET, "The placeholder, such as '<teapot>'.", flag="word", suited="the folder's name"
    )
    kind: str = _about("object", "What is learned", choices=tuple(KINDS))
    vectors: int = _about(
        1,
        "Token embeddings per word",
        least=1,
        most=1000,
        suited="1; 3 for a style; those of a file to start from",
    )
    initialization: str = _expert(
        "attention",
        "How the start is found (lowest tries words and none, attention is Eq. 4)",
        choices=tuple(INITIALIZATIONS),
    )
    start: str = _about(
        "",
        "What to start from: a word or phrase, or a learned word (a run folder, a word's file or a "
        "hub id; FILE#NAME of several in one file)",
    )
    fidelity: float = _about(
        0.0,
        "How long a word may become, in lengths of the vocabulary's words (long ones are nearer to "
        "the pictures, short ones go better with prompt weights and other words)",
        least=1,
        most=1000,
        zero="no limit",
    )
    also: str = _about(
        "",
        "Another model with the same text encoder: one word is learned for both, with twice the "
        "calls in every generation",
    )
    temperature: float = _expert(
        0.0, "Temperature of Eq. 4", least=1e-4, most=1e6, zero="CLIP's own"
    )
    subspace: str = _expert(
        "identity", "Where the search moves (pca is Eq. 2, prior Eq. 5)", choices=SUBSPACES
    )
    axes: int = _expert(
        0,
        "Dimension d of the subspace",
        least=1,
        most=1e6,
        zero="all of identity's, at most 256 of the others'",
    )
    stretch: float = _expert(
        1.0, "Lambda of the subspace prior: how much longer its axes are", least=1e-3, most=1000
    )
    objective: str = _expert(
        "denoising",
        "What is minimised (denoising is Eq. 1, similarity is CLIP's)",
        choices=OBJECTIVES,
    )
    search: str = _expert("gauss-newton", "The optimizer", choices=tuple(SEARCHES))
    popsize: int = _budget(
        30,
        "Candidates per generation",
        least=4,
        most=10_000,
        suited=f"{suited('popsize')}, else 30",
    )
    sigma: float = _expert(
        0.0,
        "Length of the first steps, in spreads of the vocabulary (for gauss-newton that of finite "
        f"differences, and first steps are up to {SEARCHES['gauss-newton'].reach:g} times as "
        "long)",
        least=1e-4,
        most=1000,
        zero=f"what suits ({sigmas()}; less with a fidelity, for similarity, or for a model that "
        "hears how long a word is)",
    )
    draws: int = _budget(
        16,
        "Random draws per generation",
        least=1,
        most=100_000,
        suited=f"{suited('draws')}, else 16",
    )
    sentences: int = _expert(
        4, "Different sentences among the draws of a generation", least=1, most=100_000
    )
    chunk: int = _expert(2, "Draws that one worker takes at a time", least=1, most=100_000)
    t_low: float = _expert(0.2, "Lowest noise level", least=0, most=1)
    t_high: float = _expert(0.9, "Highest noise level", least=0, most=1)
    weighting: str = _expert(
        "relative", "Weights of draws at different noise levels", choices=WEIGHTINGS
    )
    validation_draws: int = _expert(
        64, "Fixed draws on which the result is chosen", least=1, most=100_000
    )
    effort: str = _budget(
        "",
        f"Calls to spend ({', '.join(f'{n} {calls:,}' for n, calls in EFFORTS.items())})",
        choices=tuple(EFFORTS),
        suited="normal",
    )
    calls: int = _budget(
        EFFORTS["normal"],
        "Denoiser calls to spend, validation included",
        least=1,
        most=1e9,
        suited="those of the effort",
    )
    minutes: float = _budget(0.0, "Time to spend", above=0, most=1e6, zero="no limit")
    patience: int = _budget(
        0,
        "End after this many generations without a better result",
        least=1,
        most=1e9,
        zero="never",
    )
    preview_every: int = _budget(5, "Generations between previews", least=1, most=1e9, zero="none")
    preview_prompts: tuple[str, ...] = _about(
        (),
        "A sentence for previews and the report in place of the usual ones, such as 'a {} in the "
        "rain' (repeatable)",
        flag="preview-prompt",
    )
    samples: int = _budget(
        4, "Pictures per sentence in the report, before and after", least=1, most=1000, zero="none"
    )
    masks: bool = _about(
        True,
        "Count only what masks show: those beside the pictures, or their alpha channels.",
        off="Ignore the masks beside the pictures, and that parts of them are transparent.",
    )
    captions: bool = _about(
        True,
        "Learn from pictures in the sentences of the captions beside them.",
        off="Ignore the captions beside the pictures.",
    )
    mistakes: tuple[str, ...] = _expert(
        (),
        "Reintroduce one of the paper's mistakes (repeatable)",
        choices=tuple(MISTAKES),
        flag="mistake",
    )
    preset: str = _about("default", "Where all other values come from", choices=tuple(PRESETS))
    seed: int = _about(0, "Seed for all random numbers", least=0)

    def __post_init__(self) -> None:
        self._fill()
        check(self)
        if not self.t_low < self.t_high:
            raise SettingError(
                f"`t_low` must be below `t_high` (got {self.t_low} and {self.t_high})."
            )
        self._check_together()
        self._check_prompts()

    def _fill(self) -> None:
        """What is not given: of the preset, of what suits search and kind, or the default."""
        if self.placeholder is UNSET:
            raise SettingError("a word needs a `placeholder`.", "Give one, such as '<teapot>'.")
        name = "default" if self.preset is UNSET else self.preset
        values = preset_values(PRESETS, name)
        search = values.get("search", _default("search")) if self.search is UNSET else self.search
        kind = _default("kind") if self.kind is UNSET else self.kind
        one_of("kind", kind, tuple(KINDS))
        given = {n: getattr(self, n) for n in _OF_DRAWS if getattr(self, n) is not UNSET}
        objective = self.objective if self.objective is not UNSET else values.get("objective", "")
        of_search = {} if objective == "similarity" else dict(search_of(search).suited)
        values = {**of_search, "vectors": KINDS[kind].vectors, **values}
        if self.effort is not UNSET and self.effort != "":
            one_of("effort", self.effort, tuple(EFFORTS))
            calls = EFFORTS[self.effort]
            values = {**values, "calls": calls}
            if self.calls not in (UNSET, calls):
                raise SettingError(
                    f"the effort {self.effort} is {calls:,} `calls` (got {shown(self.calls)}).",
                    "Leave out `effort` or `calls`.",
                )
            object.__setattr__(self, "effort", "")  # from here on, `calls` says it
        fill(self, self._suited_to_start(values))
        if self.objective == "similarity":
            for unused in (n for n, v in given.items() if v != values.get(n, _default(n))):
                raise SettingError(
                    f"the objective 'similarity' has no use for `{unused}`.",
                    f"Leave out `{unused}`.",
                )

    def _suited_to_start(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values with the initialization that reads ``start``, and as many vectors as a file
        has.
        """
        if not isinstance(self.start, str) or not self.start:
            return values
        # Imported where they are needed: ``--help`` reads this module and waits for no torch.
        from evoken.words.places import names_word
        from evoken.words.word import load_word

        how = self.initialization
        if how is UNSET:
            how = "file" if names_word(self.start) else "word"
        counts = how == "file" and self.vectors is UNSET
        count = {"vectors": len(load_word(self.start).vectors)} if counts else {}
        return {**values, "initialization": how, **count}

    def _check_together(self) -> None:
        """Raise for settings without effect beside the others."""
        search = search_of(self.search)
        for wrong, problem, fix in (
            (
                "independent-draws" in self.mistakes and search.wants_gram,
                f"the mistake 'independent-draws' does not go with the search {self.search}.",
                "Choose another `search`, such as cma.",
            ),
            (
                "independent-draws" in self.mistakes and self.objective == "similarity",
                "the mistake 'independent-draws' needs the objective 'denoising'.",
                "Leave one of them out.",
            ),
            (
                "unit-axes" in self.mistakes and self.subspace != "pca",
                "the mistake 'unit-axes' needs the subspace pca.",
                "Set `subspace` to pca.",
            ),
            (
                "last-best" in self.mistakes and not search.has_best,
                f"the mistake 'last-best' does not go with the search {self.search}.",
                "Choose another `search`, such as cma.",
            ),
            (
                "no-temperature" in self.mistakes and self.initialization != "attention",
                "the mistake 'no-temperature' needs the initialization 'attention'.",
                "Leave one of them out.",
            ),
            (
                {"unit-norm", "added-mean"} & {*self.mistakes} and self.initialization == "lowest",
                "the mistakes 'unit-norm' and 'added-mean' change a start that is given, and the "
                "initialization 'lowest' chooses one.",
                "Set `initialization` to attention.",
            ),
            (
                self.temperature and self.initialization != "attention",
                "only the initialization 'attention' has a `temperature`.",
                "Leave it out.",
            ),
            (
                self.stretch != 1 and self.subspace != "prior",
                "only the subspace 'prior' has a `stretch`.",
                "Leave it out, or set `subspace` to prior.",
            ),
            (
                self.start and self.initialization not in ("word", "file"),
                f"`start` needs the initialization 'word' or 'file' (got {self.initialization!r}).",
                "Leave `start` or `initialization` out.",
            ),
            (
                not self.start and self.initialization in ("word", "file"),
                f"the initialization {self.initialization!r} needs a `start`.",
                "Give one, such as 'cat' or a run folder, or leave `initialization` out.",
            ),
            (
                self.objective == "similarity" and self.initialization == "lowest",
                "the initialization 'lowest' needs the objective 'denoising': whole generations "
                "are too dear to try words on.",
                "Set `initialization` to attention.",
            ),
            (
                self.objective == "similarity" and search.wants_gram,
                f"the search {self.search} needs residuals, which the objective 'similarity' "
                "does not give.",
                "Set `search` to sep-cma.",
            ),
        ):
            if wrong:
                raise SettingError(problem, fix)

    def _check_prompts(self) -> None:
        """Raise for a sentence to preview that the word is not in."""
        word = self.placeholder
        for text in self.preview_prompts:
            if "{}" in text or holds(text, word):
                continue
            name = word.strip("<>")
            if name and word not in text and holds(text, name):
                better = "".join(
                    part + (word if found else "") for part, found in pieces(text, [name])
                )
            else:
                kind = KINDS[self.kind]
                better = (kind.template(text, word) or kind.plain).format(word)
            raise SettingError(
                f"`preview_prompts` must have {word} or {{}} in them (got {shown(text)}).",
                f"Write {shown(better, 200)}.",
            )

    @property
    def shown_prompts(self) -> tuple[str, ...]:
        """The sentences of the report, with the placeholder in them; previews show the same, or of
        the usual ones the first.
        """
        texts = self.preview_prompts or KINDS[self.kind].samples
        return tuple(text.replace("{}", self.placeholder) for text in texts)

    @property
    def previewed_prompts(self) -> tuple[str, ...]:
        """The sentences of previews."""
        return self.shown_prompts if self.preview_prompts else self.shown_prompts[:1]

    @property
    def uses_masks(self) -> bool:
        """Whether masks beside the pictures count."""
        return self.masks and self.objective == "denoising"

    @property
    def uses_captions(self) -> bool:
        """Whether captions beside the pictures count."""
        return self.captions and self.objective == "denoising"

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: without the effort, which ``calls`` says."""
        return {name: value for name, value in to_dict(self).items() if name != "effort"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LearnSettings":
        """From what ``to_dict`` gave; raises ``SettingError`` for unknown names."""
        # Earlier versions wrote the effort beside its calls, also when these were others later.
        unused = ("effort",) if "calls" in values else ()
        # And had fidelities below 1, which made nothing but the steps shorter.
        fidelity = values.get("fidelity", 0)
        if isinstance(fidelity, float) and 0 < fidelity < 1:
            steps = {"sigma": values.get("sigma") or WITHIN * fidelity, "fidelity": 1.0}
            values = values | (
                steps if values.get("objective") == "denoising" else {"fidelity": 1.0}
            )
        return make(cls, {name: value for name, value in values.items() if name not in unused})


def _default(name: str) -> Any:
    return LearnSettings.__dataclass_fields__[name].metadata["setting"].default


def preset(name: str, **changes: Any) -> LearnSettings:
    """The settings of a preset, with changes.

    Args:
        name: "default" or "paper".
        changes: fields of ``LearnSettings``.

    Raises:
        SettingError: the preset or a setting is unknown, a value is not possible, or a change would
            have no effect.
    """
    return make(LearnSettings, changes | {"preset": name})


# Settings that others follow from, unless those are given.
DECIDING = ("preset", "kind", "objective", "search", "fidelity", "initialization", "start")


def changed(
    values: Mapping[str, Any], changes: Mapping[str, Any], of_run: bool = True
) -> dict[str, Any]:
    """Values with some changed. The calls of an effort give way to calls, and the other way round.

    Args:
        of_run: they are all values that a run had. What follows from a setting that is changed is
            left open, so that it follows from the new one, such as the steps that suit a search.
            Of values that somebody chose, all stay.
    """
    same = {name for name, value in changes.items() if values.get(name) == value}
    left = dict(values)
    if {"effort", "calls"} & (changes.keys() - same):
        left = {name: value for name, value in left.items() if name not in ("effort", "calls")}
    if of_run and {*DECIDING} & (changes.keys() - same):
        left = _undecided(left)
    return left | dict(changes)


def _undecided(values: dict[str, Any]) -> dict[str, Any]:
    """The values without those that follow from the others."""
    word = {"placeholder": "<word>"}
    try:
        whole = make(LearnSettings, word | values)
    except SettingError:  # which is told once it is made of all that was given
        return values
    for name in list(values):
        less = {n: value for n, value in values.items() if n != name}
        with suppress(SettingError):  # where the others need it
            if make(LearnSettings, word | less) == whole:
                values = less
    return values
