"""Every choice of an inversion or an edit."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from evoken.errors import SettingError
from evoken.options import ABOUT, BUDGET, check, documented, make, preset_values, setting, to_dict

STARTS = ("implicit", "uniinv", "euler", "noise")
RULES = ("anderson", "barzilai-borwein", "estimated", "fixed", "adam")

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
        "Share of the start's noise to draw anew; more departs further from the picture",
        least=0,
        most=1,
    )
    rule: str = setting("anderson", "How the noise is updated", choices=RULES)
    eta: float = setting(0.3, "Step size", above=0, most=1000)
    iterations: int = _budget(4, "Updates of the noise", least=0, most=100_000)
    source_guidance: float = setting(
        1.0, "Guidance of the prompt that the start is found with; 1 means none", least=1, most=1000
    )
    guidance: float = _about(1.0, "Classifier-free guidance; 1 means none", least=1, most=1000)
    patience: int = _budget(
        0,
        "End after this many iterates without better agreement with the target",
        least=1,
        most=1e9,
        zero="never",
    )
    seed: int = _about(0, "Seed for the start 'noise' and for fresh noise", least=0)

    def __post_init__(self) -> None:
        check(self)
        if self.last > self.steps:
            raise SettingError(
                f"`last` must be at most `steps` (got {self.last} of {self.steps} steps)."
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FlowOptSettings":
        """From what ``to_dict`` gave; raises ``SettingError`` for unknown names."""
        return make(cls, values)


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
    """The settings of a preset, with changes. If ``steps`` changes and ``last`` is not given,
    ``last`` changes in proportion.

    Raises:
        SettingError: the preset or a setting is unknown, or a value is not possible.
    """
    chosen = preset_values(FLOWOPT_PRESETS, name)
    if isinstance(changes.get("steps"), int) and chosen.get("last"):
        share = chosen["last"] / chosen["steps"]
        chosen = chosen | {"last": max(1, round(share * changes["steps"]))}
    return make(FlowOptSettings, chosen | changes)
