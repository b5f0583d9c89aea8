"""Checks of settings, which raise ``SettingError``."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from evoken.errors import SettingError, shown
from evoken.version import __version__

KINDS = {int: "a whole number", float: "a number", str: "text"}


def one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise unless ``value`` is among the choices."""
    if value not in choices:
        raise SettingError(f"`{name}` must be one of {', '.join(choices)} (got {shown(value)}).")


def at_least(name: str, value: int, least: int) -> None:
    """Raise unless ``value`` is ``least`` or more."""
    if value < least:
        raise SettingError(f"`{name}` must be at least {least} (got {shown(value)}).")


def above_zero(name: str, value: float) -> None:
    """Raise unless ``value`` is above 0 and finite."""
    if not 0 < value < math.inf:
        raise SettingError(f"`{name}` must be above 0 and finite (got {shown(value)}).")


def right_types(settings: Any) -> None:
    """Raise unless the numbers and texts of a dataclass are what its fields say; an int is a float
    as well.
    """
    for field in dataclasses.fields(settings):
        value, kind = getattr(settings, field.name), field.type
        if kind in KINDS:
            fits = (int, float) if kind is float else kind
            if isinstance(value, bool) or not isinstance(value, fits):
                raise SettingError(f"`{field.name}` must be {KINDS[kind]} (got {shown(value)}).")


def known_fields(settings: type, names: Iterable[str]) -> None:
    """Raise unless all names are fields of the dataclass ``settings``."""
    known = {f.name for f in dataclasses.fields(settings)}
    if unknown := sorted(set(names) - known):
        raise SettingError(
            f"evoken {__version__} has no setting {' or '.join(map(shown, unknown))}.",
            "Use the settings of this version.",
        )


def preset_values(presets: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """The values of a preset; raise for an unknown one."""
    one_of("preset", name, tuple(presets))
    return presets[name]
