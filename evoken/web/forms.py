"""Forms made of the fields of settings classes, and commands made of what was filled in."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evoken.errors import EvokenError, SettingError, plain, shown
from evoken.options import PANELS, Field, fields_of

MOST_TEXT = 2000  # letters of one answer
ON = "on"  # what a browser sends for a box that is ticked


@dataclass(frozen=True)
class Question:
    """One field of a form.

    Attributes:
        name: of the setting.
        label, help: what stands beside it.
        kind: "number", "text", "lines", "choice" or "switch".
        choices: of a choice; "" first, for the default.
        default: said where nothing is filled in.
        value: what is filled in.
        least, most, step: of a number, as HTML takes them; "" for none.
    """

    name: str
    label: str
    help: str
    kind: str
    choices: tuple[str, ...]
    default: str
    value: str
    least: str = ""
    most: str = ""
    step: str = ""


def questions(
    settings: type,
    without: Iterable[str] = (),
    defaults: Mapping[str, Any] = {},
    values: Mapping[str, str] = {},
) -> dict[str, list[Question]]:
    """By panel: the fields of a settings class as a form asks for them.

    Args:
        without: names of fields that are not asked for.
        defaults: where they are not the class's own.
        values: to fill in.
    """
    asked: dict[str, list[Question]] = {panel: [] for panel in PANELS}
    for field in fields_of(settings).values():
        if field.name not in without:
            value = values.get(field.name, "")
            asked[field.about.panel].append(_question(field, defaults.get(field.name), value))
    return {panel: found for panel, found in asked.items() if found}


def _question(field: Field, default: Any, value: str) -> Question:
    about = field.about
    default = default if default is not None else about.suited or about.default
    text = f"{default:g}" if isinstance(default, float) else str(default or "")
    text = "\n".join(default) if isinstance(default, tuple) else text
    kind = "switch" if field.type is bool else "choice" if about.choices else "text"
    kind = "lines" if field.several and kind == "text" else kind
    least = most = step = ""
    if field.type in (int, float) and not about.choices:
        kind, step = "number", "1" if field.type is int else "any"
        lowest = 0 if about.zero else about.least if about.least is not None else about.above
        least = "" if lowest is None else f"{lowest:.10g}"
        most = "" if about.most is None else f"{about.most:.10g}"
    label = field.name.replace("_", " ").capitalize()
    choices = ("", *about.choices) if about.choices else ()
    sentence = about.off or f"{field.sentence}."
    sentence += " One to a line." if kind == "lines" else ""
    return Question(field.name, label, sentence, kind, choices, text, value, least, most, step)


def options_of(
    settings: type, answers: Mapping[str, str], without: Iterable[str] = ()
) -> list[str]:
    """The options of a command that say what was filled in.

    Raises:
        SettingError: an answer is too long, or holds letters that cannot be seen.
    """
    options = []
    for field in fields_of(settings).values():
        answer = text_of(answers, field.name)
        if field.name in without or not answer:
            continue
        if field.type is bool:
            options += [field.option] if answer == ON else []
        elif field.several:
            for one in answer.splitlines():
                options += [f"{field.option}={one.strip()}"] if one.strip() else []
        else:
            options.append(f"{field.option}={answer}")
    return options


def values_of(settings: type, answers: Mapping[str, str]) -> dict[str, Any]:
    """What was filled in for the fields of a settings class, by name.

    Raises:
        SettingError: an answer is no number, is too long, or holds letters that cannot be seen.
    """
    found: dict[str, Any] = {}
    for field in fields_of(settings).values():
        answer = text_of(answers, field.name)
        if field.type is bool:
            found |= {field.name: not field.about.off} if answer == ON else {}
        elif answer and field.several:
            found[field.name] = tuple(one.strip() for one in answer.splitlines() if one.strip())
        elif answer:
            try:
                found[field.name] = field.type(answer)
            except ValueError:
                kind = "a whole number" if field.type is int else "a number"
                raise SettingError(
                    f"`{field.name}` must be {kind} (got {shown(answer)})."
                ) from None
    return found


def text_of(answers: Mapping[str, Any], name: str) -> str:
    """What was filled in, without space around it; "" for nothing.

    Raises:
        SettingError: it is too long, or holds letters that cannot be seen.
    """
    answer = answers.get(name, "")
    if not isinstance(answer, str) or len(answer) > MOST_TEXT:
        raise SettingError(f"`{name}` is too long.", f"Use at most {MOST_TEXT:,} letters.")
    if plain(answer, "\r\n\t") != answer:
        raise SettingError(f"`{name}` holds letters that cannot be seen (got {shown(answer)}).")
    return answer.strip()


def for_people(error: EvokenError | str) -> str:
    """An error with the labels of a form in place of settings and options."""

    def label(match: "re.Match[str]") -> str:
        return f"“{match[1].replace('_', ' ').replace('-', ' ').strip().capitalize()}”"

    text = re.sub(r"`([a-z_]+)`", label, str(error))
    text = re.sub(r"(?<!\S)--([a-z][a-z-]*)", label, text)
    return text[:1].upper() + text[1:]
