"""Every choice of an inversion or an edit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from evoken.errors import SettingError
from evoken.flowopt.strength import Noise, Strength, Variant, exact
from evoken.options import (
    ABOUT,
    BUDGET,
    check,
    documented,
    make,
    preset_values,
    setting,
    to_dict,
)

STARTS = ("implicit", "uniinv", "euler", "noise")
RULES = ("anderson", "barzilai-borwein", "estimated", "fixed", "adam")
FRAMES = ("whole", "middle", "mask")
MOST_DRAWN = 1000  # iterates of a run

SINGLE = ("guidance", "last")  # what asks for one strength, where there are no others

_about = partial(setting, panel=ABOUT)
_budget = partial(setting, panel=BUDGET)


@documented
@dataclass(frozen=True)
class FlowOptSettings:
    """The settings of one run, as its ``config.json`` records them.

    Raises:
        SettingError: a value is not possible.
    """

    steps: int = _budget(10, "Steps T of the whole process", least=1, most=1000)
    last: int = _budget(
        0,
        "Use only the last n steps; fewer keep more of the picture",
        least=1,
        most=1000,
        zero="all",
    )
    start: str = setting("implicit", "How the start is found", choices=STARTS)
    tolerance: float = setting(
        1e-3, "Tolerance of the start 'implicit', in latents", above=0, most=1000
    )
    fresh: float = _about(
        0.0,
        "Share of the noise to draw anew at every level, unless a strength has its own; more lets "
        "go of what was there",
        least=0,
        most=1,
    )
    rule: str = setting("anderson", "How the noise is updated", choices=RULES)
    eta: float = setting(0.3, "Step size", above=0, most=1000)
    iterations: int = _budget(4, "Updates of the noise", least=0, most=100_000)
    source_guidance: float = setting(
        1.0, "Guidance of the prompt that the start is found with (1 is none)", least=1, most=1000
    )
    guidance: float = _about(1.0, "Classifier-free guidance (1 is none)", least=1, most=1000)
    strengths: tuple[str, ...] = _about(
        (),
        "A strength to draw, GUIDANCE:LAST or GUIDANCE:LAST:FRESH such as 4:12:0.5, in place of "
        "guidance and last (repeatable)",
        flag="strength",
        suited="guidance and last",
    )
    everywhere: bool = _about(False, "Let all of the picture change, not only where the edit is")
    frame: str = _about(
        "whole",
        "What the model sees: the whole picture drawn out to a square, its middle square or, of an "
        "edit, a square around the mask that is given",
        choices=FRAMES,
    )
    patience: int = _budget(
        0,
        "End after this many iterates without better agreement with the target",
        least=1,
        most=1e9,
        zero="never",
    )
    seed: int = _about(0, "Seed for the start 'noise' and for fresh noise", least=0)
    seeds: int = _about(
        1,
        "Draws of the fresh noise, each a picture of its own, from the seed on",
        least=1,
        most=100,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.strengths:
            fields = type(self).__dataclass_fields__
            _check_single([n for n in SINGLE if getattr(self, n) != fields[n].default])
        seen = set[Strength]()
        for strength in self._strengths():
            if strength.last > self.steps:
                raise SettingError(
                    f"`last` must be at most `steps` (got {strength.last} of {self.steps} steps)."
                )
            found = replace(strength, last=strength.last or self.steps)
            if found in seen:
                raise SettingError(f"`strengths` must differ (got {strength} twice).")
            seen.add(found)
        if self.seeds > 1 and not any(v.strength.fresh for v in self.variants):
            raise SettingError(
                f"`seeds` must be 1 where no noise is drawn anew (got {self.seeds}): all pictures "
                "would be the same.",
                "Set `fresh`, such as 0.5.",
            )
        if self.drawn > MOST_DRAWN and len(self.variants) > 1:
            raise SettingError(
                f"there must be at most {MOST_DRAWN:,} pictures of strengths, seeds and updates "
                f"(got {self.drawn:,})."
            )

    def _strengths(self) -> list[Strength]:
        if self.strengths:
            return [Strength.read(text, self.fresh) for text in self.strengths]
        return [Strength(self.guidance, self.last, self.fresh)]

    @property
    def variants(self) -> list[Variant]:
        """The pictures of the strip, in the order in which they are drawn; what draws no noise is
        drawn once.
        """
        return [
            Variant(strength, self.seed + i)
            for strength in self._strengths()
            for i in range(self.seeds if strength.fresh else 1)
        ]

    @property
    def deepest(self) -> int:
        """How many of the last steps the inversion goes up."""
        return self._deepest(self.variants)

    def deepest_of(self, noise: Noise) -> int:
        """How many of the last steps some fresh noise is drawn for."""
        return self._deepest(variant for variant in self.variants if variant.noise == noise)

    def _deepest(self, variants: Iterable[Variant]) -> int:
        return max(variant.strength.last or self.steps for variant in variants)

    @property
    def drawn(self) -> int:
        """Iterates in all: the strip, and the updates of each of its pictures."""
        return len(self.variants) * (1 + self.iterations)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: without what other strengths are in place of."""
        unused = SINGLE if self.strengths else ()
        return {name: value for name, value in to_dict(self).items() if name not in unused}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FlowOptSettings":
        """From what ``to_dict`` gave; raises ``SettingError`` for unknown names."""
        # Earlier versions wrote what was of no use, too.
        unused = SINGLE if values.get("strengths") else ()
        return make(cls, {name: value for name, value in values.items() if name not in unused})


def check_inversion(settings: FlowOptSettings) -> None:
    """Raise ``SettingError`` for what only edits have."""
    if settings.frame == "mask":
        raise SettingError(
            "`frame` must be whole or middle to invert a picture (got mask): only edits have masks."
        )
    for name in ("strengths", "fresh"):
        if value := getattr(settings, name):
            said = ", ".join(value) if name == "strengths" else exact(value)
            raise SettingError(
                f"`{name}` only serves to edit a picture, not to invert one (got {said}).",
                "Leave it out, or choose the preset invert.",
            )


def _check_single(given: Sequence[str]) -> None:
    """Raise ``SettingError`` for what was given beside strengths."""
    if given:
        raise SettingError(
            f"`strengths` are in place of `guidance` and `last`, but `{given[0]}` came as well.",
            "Leave out one of them; a strength has both, like 4:12.",
        )


# The official script's choices (orronai/FlowOpt at ee3577b0), by what is done and on which family.
_OFFICIAL: dict[str, Any] = {
    "start": "uniinv",
    "tolerance": 1e-3,  # of no use to this start
    "rule": "fixed",
    "everywhere": True,
    "frame": "middle",
    "strengths": (),
}
_SD3, _FLUX = _OFFICIAL | {"eta": 0.01}, _OFFICIAL | {"eta": 0.0025}
_INVERT = {"steps": 10, "last": 10, "iterations": 30}
_EDIT = {"steps": 15, "iterations": 8, "guidance": 3.5}
OFFICIAL: dict[str, dict[str, Any]] = {
    "official-sd3-invert": _SD3 | _INVERT,
    "official-sd3-edit": _SD3 | _EDIT | {"last": 12},
    "official-flux-invert": _FLUX | _INVERT,
    "official-flux-edit": _FLUX | _EDIT | {"last": 13},
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "invert": {},
    "edit": {
        "steps": 15,
        "last": 14,
        "tolerance": 0.01,
        "rule": "fixed",
        "eta": 0.1,
        "iterations": 0,
        "guidance": 4.0,
        "fresh": 1.0,
        "strengths": ("3.5:14", "5:14"),
    },
}
FLOWOPT_PRESETS = DEFAULTS | OFFICIAL
OF_UPDATES = ("rule", "eta", "patience")


def flowopt_preset(name: str, **changes: Any) -> FlowOptSettings:
    """The settings of a preset, with changes. If ``steps`` changes and ``last`` is not given,
    ``last`` changes in proportion. A preset's strip of strengths gives way to a ``guidance``
    or ``last`` that is given; ``iterations`` are of every picture of it.

    Raises:
        SettingError: the preset or a setting is unknown, or a value is not possible.
    """
    chosen = preset_values(FLOWOPT_PRESETS, name)
    if given := [single for single in SINGLE if single in changes]:
        if changes.get("strengths"):
            _check_single(given)
        chosen = chosen | {"strengths": ()}
    if isinstance(steps := changes.get("steps"), int) and chosen.get("last"):
        chosen = chosen | _of_steps(chosen, steps)
    found = FlowOptSettings.from_dict(chosen | changes)
    if not found.iterations:
        plain = FlowOptSettings.from_dict(
            chosen | {name: value for name, value in changes.items() if name not in OF_UPDATES}
        )
        for name in OF_UPDATES:
            if getattr(found, name) != getattr(plain, name):
                raise SettingError(
                    f"`{name}` is of updates, of which there are none (`iterations` is 0).",
                    f"Set `iterations`, or leave out `{name}`.",
                )
    return found


def _of_steps(chosen: dict[str, Any], steps: int) -> dict[str, Any]:
    """A preset's last steps for another number of steps, in proportion."""

    def scaled(last: int) -> int:
        return max(1, round(last / chosen["steps"] * steps))

    strengths = (Strength.read(text) for text in chosen.get("strengths", ()))
    texts = (str(replace(strength, last=scaled(strength.last))) for strength in strengths)
    return {"last": scaled(chosen["last"]), "strengths": tuple(texts)}
