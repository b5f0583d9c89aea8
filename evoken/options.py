"""A setting said once: its default, help, range and choices stand at its field, and the checks, the
command line, configuration files and the reference page are made of that.

    @dataclass(frozen=True)
    class Settings:
        steps: int = setting(10, "Steps of the whole process.", least=1)

        def __post_init__(self) -> None:
            check(self)
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from evoken.errors import SettingError, shown

T = TypeVar("T")
ABOUT, MODEL, BUDGET, EXPERT = "What it is about", "Model", "Budget", "Expert"
UNTOLD = 1000  # upper bounds from here on are told to those who exceed them, and to nobody else
PANELS = (ABOUT, MODEL, BUDGET, EXPERT)


@dataclass(frozen=True)
class Setting:
    """What is known of a field beside its name and type.

    Attributes:
        default: its value where nobody says otherwise.
        help: one sentence for users, without range and default, which are added where it is shown.
        choices: all that a text may be; none means any text.
        least, above, most: a number's range; ``above`` is exclusive.
        zero: what 0 stands for, where it is no number in the range but means something of its own.
        panel: one of PANELS.
        flag: the option's name on the command line without dashes, where it is not the field's.
        suited: what the default depends on, in words, where a preset or another setting decides.
        off: the help of the option that turns it off, where it is on by default.
    """

    default: Any
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    zero: str = ""
    panel: str = EXPERT
    flag: str = ""
    suited: str = ""
    off: str = ""


class Unset:
    """In place of a value that nobody gave, until ``fill`` has put one there."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = Unset()


def setting(default: Any, help: str, **about: Any) -> Any:  # noqa: A002
    """A field of a settings class; see ``Setting`` for what can be said about it."""
    about_it = Setting(default, help, **about)
    return dataclasses.field(default=default, metadata={"setting": about_it})


def open_setting(default: Any, help: str, **about: Any) -> Any:  # noqa: A002
    """As ``setting``, of a class that calls ``fill``: what is not given stays open until then."""
    about_it = Setting(default, help, **about)
    return dataclasses.field(default=UNSET, metadata={"setting": about_it})


@dataclass(frozen=True)
class Field:
    """A setting with its name and its type (of the elements, where it is a tuple)."""

    name: str
    type: type
    several: bool
    about: Setting

    @property
    def option(self) -> str:
        """Its option on the command line, which turns it off where it is on by default."""
        flag = self.about.flag or self.name.replace("_", "-")
        return f"--no-{flag}" if self.about.off else f"--{flag}"

    @property
    def range(self) -> str:
        """The range in words, such as "at least 1"; "" where anything goes."""
        return self._bounded(self.about.most)

    def _bounded(self, most: float | None) -> str:
        about, bounds = self.about, []
        if about.least is not None:
            bounds.append(f"at least {_number(about.least)}")
        if about.above is not None:
            bounds.append(f"above {_number(about.above)}")
        if most is not None:
            bounds.append(f"at most {_number(most)}")
        if about.least is not None and most is not None:
            bounds = [f"from {_number(about.least)} to {_number(most)}"]
        return " and ".join(bounds)

    @property
    def sentence(self) -> str:
        """What it is, what is allowed and what 0 means, without a full stop."""
        about, text = self.about, self.about.help.rstrip(".")
        most = None if about.most is None or about.most >= UNTOLD else about.most
        if about.choices:
            text += f": {', '.join(about.choices[:-1])} or {about.choices[-1]}"
        elif (told := self._bounded(most)) and (
            about.least not in (0, 1) or most is not None or (about.least and self.type is float)
        ):
            text += f", {told}"
        return f"{text}; 0 for {about.zero}" if about.zero else text

    def check(self, value: Any) -> None:
        """Raise ``SettingError`` unless the value is of the type, and among the choices or in the
        range.
        """
        if self.several:
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise SettingError(f"`{self.name}` must be a list (got {value!r}).")
            for one in value:
                self._check_one(one)
        else:
            self._check_one(value)

    def _check_one(self, value: Any) -> None:
        fits: Any = (int, float) if self.type is float else self.type
        if not isinstance(value, fits) or (isinstance(value, bool) and self.type is not bool):
            raise SettingError(f"`{self.name}` must be {_NAMED[self.type]} (got {shown(value)}).")
        if self.about.choices and value != self.about.default:  # "" may leave it open
            one_of(self.name, value, self.about.choices)
        elif self.type in (int, float) and not self._in_range(value):
            allowed = self.range or "a finite number"
            zero = f", or 0 for {self.about.zero}" if self.about.zero else ""
            raise SettingError(f"`{self.name}` must be {allowed}{zero} (got {shown(value)}).")

    def _in_range(self, value: float) -> bool:
        about = self.about
        return (about.zero != "" and value == 0) or (
            (isinstance(value, int) or math.isfinite(value))
            and (about.least is None or value >= about.least)
            and (about.above is None or value > about.above)
            and (about.most is None or value <= about.most)
        )


def _number(value: float) -> str:
    return f"{value:,.10g}"


_NAMED = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def fields_of(settings: type[Any]) -> dict[str, Field]:
    """The settings of a class by name, in the order of its fields."""
    hints = get_type_hints(settings)
    found = {}
    for field in dataclasses.fields(settings):
        if "setting" in field.metadata:
            kind = hints[field.name]
            several = get_origin(kind) is tuple
            kind = get_args(kind)[0] if several else kind
            about = field.metadata["setting"]
            found[field.name] = Field(field.name, kind, several, about)
    return found


def documented(settings: type[T]) -> type[T]:
    """The class, with its settings in its docstring."""
    lines = [f"    {field.name}: {field.sentence}" for field in fields_of(settings).values()]
    settings.__doc__ = f"{settings.__doc__}\n    Settings:\n" + "\n".join(
        f"    {line}" for line in lines
    )
    return settings


def fill(settings: Any, values: Mapping[str, Any]) -> None:
    """Put values, or else defaults, where nothing was given to a frozen settings object."""
    for name, field in fields_of(type(settings)).items():
        if getattr(settings, name) is UNSET:
            object.__setattr__(settings, name, values.get(name, field.about.default))


def check(settings: Any) -> None:
    """Raise ``SettingError`` for the first setting that is out of its range."""
    for name, field in fields_of(type(settings)).items():
        field.check(getattr(settings, name))


def one_of(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise unless ``value`` is among the choices."""
    if value in choices:
        return
    near = get_close_matches(str(value), choices, 1)
    hint = f"Use {near[0]}." if near else ""
    raise SettingError(f"`{name}` must be one of {', '.join(choices)} (got {shown(value)}).", hint)


def whole(name: str, value: Any) -> None:
    """Raise unless ``value`` is a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise SettingError(f"`{name}` must be {_NAMED[int]} (got {shown(value)}).")


def in_range(name: str, value: float, least: float, most: float) -> None:
    """Raise unless ``value`` is from ``least`` to ``most``; NaN is not."""
    if not least <= value <= most:
        raise SettingError(
            f"`{name}` must be from {_number(least)} to {_number(most)} (got {shown(value)})."
        )


def at_least(name: str, value: int, least: int) -> None:
    """Raise unless ``value`` is ``least`` or more."""
    if value < least:
        raise SettingError(f"`{name}` must be at least {least} (got {shown(value)}).")


def above_zero(name: str, value: float) -> None:
    """Raise unless ``value`` is above 0 and finite."""
    if not 0 < value < math.inf:
        raise SettingError(f"`{name}` must be a finite number above 0 (got {value}).")


def known_names(names: Iterable[str], known: Iterable[str], what: str = "setting") -> None:
    """Raise unless all names are known; the error gives the nearest."""
    known = tuple(known)
    for name in names:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            hint = f"Use `{near[0]}`." if near else f"Use one of {', '.join(known)}."
            raise SettingError(f"there is no {what} called {shown(name)}.", hint)


def make(settings: type[T], values: Mapping[str, Any]) -> T:
    """Settings of values by name, as ``to_dict`` or JSON gives them.

    Raises:
        SettingError: a name is unknown, or a value is not possible.
    """
    known_names(values, [f.name for f in dataclasses.fields(settings)])  # type: ignore[arg-type]
    as_tuples = {n: tuple(v) for n, v in values.items() if isinstance(v, list)}
    return settings(**{**values, **as_tuples})


def to_dict(settings: Any) -> dict[str, Any]:
    """Settings as JSON holds them."""
    values = dataclasses.asdict(settings)
    return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}


def preset_values(presets: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """The values of a preset; raise for an unknown one."""
    one_of("preset", name, tuple(presets))
    return presets[name]
