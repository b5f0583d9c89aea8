"""Every choice of an inversion or an edit."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from evoken.errors import SettingError
from evoken.flowopt.inversion import STARTS
from evoken.flowopt.rules import RULES
from evoken.options import above_zero, at_least, known_fields, one_of, preset_values, right_types


@dataclass(frozen=True)
class FlowOptSettings:
    """The settings of one run; all of them stand in its ``config.json``.

    Attributes:
        steps, last: T steps of the process, of which the last n are used; 0 means all. Fewer keep
            more of the picture.
        start, tolerance: see ``starting_point``.
        fresh: share of the noise in the start, by variance, that is drawn anew: more of it lets an
            edit depart further from the picture. 0 to 1.
        rule, eta: see ``evoken.flowopt.rules``.
        iterations: updates.
        source_guidance: of the source prompt, which the start is found with.
        guidance: of the prompt of the iteration.
        patience: an edit ends early once this many iterates in a row agree less with the target
            than the best did; 0 means never.
        seed: of the start "noise", and of fresh noise.
    """

    steps: int = 10
    last: int = 0
    start: str = "implicit"
    tolerance: float = 1e-3
    fresh: float = 0.0
    rule: str = "anderson"
    eta: float = 0.3
    iterations: int = 4
    source_guidance: float = 1.0
    guidance: float = 1.0
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        right_types(self)
        one_of("start", self.start, STARTS)
        one_of("rule", self.rule, tuple(RULES))
        at_least("steps", self.steps, 1)
        at_least("last", self.last, 0)
        at_least("iterations", self.iterations, 0)
        at_least("patience", self.patience, 0)
        at_least("seed", self.seed, 0)
        above_zero("tolerance", self.tolerance)
        above_zero("eta", self.eta)
        if not 0 <= self.fresh <= 1:
            raise SettingError(
                f"`fresh` must be a share of the noise from 0 to 1 (got {self.fresh})."
            )
        for name in ("source_guidance", "guidance"):
            if not 1 <= getattr(self, name) < math.inf:
                raise SettingError(
                    f"`{name}` must be at least 1, which means none, and finite (got "
                    f"{getattr(self, name)})."
                )
        if self.last > self.steps:
            raise SettingError(
                f"`last` must be at most `steps` (got {self.last} and {self.steps})."
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FlowOptSettings":
        """From what ``to_dict`` gave; raises ``SettingError`` for unknown names."""
        known_fields(cls, values)
        return cls(**values)


# The official script's choices (orronai/FlowOpt at ee3577b0), by what is done and on which family.
OFFICIAL_METHOD: dict[str, Any] = {"start": "uniinv", "rule": "fixed"}
_SD3, _FLUX = OFFICIAL_METHOD | {"eta": 0.01}, OFFICIAL_METHOD | {"eta": 0.0025}
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
        "last": 12,
        "rule": "fixed",
        "eta": 0.1,
        "iterations": 6,
        "guidance": 4.0,
    },
}
FLOWOPT_PRESETS = DEFAULTS | OFFICIAL


def flowopt_preset(name: str, **changes: Any) -> FlowOptSettings:
    """The settings of a preset with some changed; raises ``SettingError`` for an unknown preset.
    With other ``steps``, the preset's share of them is used unless ``last`` is given too.
    """
    chosen = preset_values(FLOWOPT_PRESETS, name)
    if isinstance(changes.get("steps"), int) and chosen.get("last"):
        share = chosen["last"] / chosen["steps"]
        chosen = chosen | {"last": max(1, round(share * changes["steps"]))}
    return FlowOptSettings(**chosen | changes)
