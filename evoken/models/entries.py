"""The entries of a part's configuration, against what its class takes.

diffusers takes any value for any entry, and draws another picture with it: the text "x" is true.
transformers checks its own.
"""

import inspect
import math
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from evoken.errors import ModelError, shown
from evoken.models.contents import read_json

NAMES: dict[type, str] = {bool: "true or false", int: "a number", str: "a text", list: "a list"}
NULL = type(None)


def check_entries(file: Path, library: str, kind: str) -> None:
    """Raise ``ModelError`` for an entry that is of another kind than the class of a part takes, or
    for a number that is none. What is not there takes the library's default, as in the files of
    older versions.

    Args:
        file: of the configuration.
        library, kind: where the class is and its name, as in model_index.json.
    """
    taken = _taken(kind) if library == "diffusers" else {}
    for name, value in read_json(file).items():
        kinds = taken.get(name)
        if kinds and _kind(value) not in kinds:
            allowed = sorted(NAMES[k] for k in kinds if k in NAMES)
            problem = f"{' or '.join(allowed)} (got {shown(value)})"
        elif not all(map(math.isfinite, _numbers(value))) and value != _default(kind, name):
            problem = f"finite (got {shown(value)})"
        else:
            continue
        raise ModelError(
            f"{shown(name)} in {shown(file)} must be {problem}.", "Use another copy of the model."
        )


def _taken(kind: str) -> dict[str, frozenset[type]]:
    """The kinds of values that each entry may have; without those that may be anything."""
    from evoken.libraries import diffusers

    found = getattr(diffusers, kind, None)
    if not inspect.isclass(found):
        return {}
    hints = get_type_hints(found.__init__)
    taken = {}
    for name, parameter in inspect.signature(found.__init__).parameters.items():
        kinds = set(_kinds(hints[name])) if name in hints else set()
        if kinds and object not in kinds:
            # Files say null for an entry that is off, whatever its class calls that.
            off = () if parameter.default else (NULL,)
            taken[name] = frozenset((*kinds, _kind(parameter.default), *off))
    return taken


def _default(kind: str, name: str) -> Any:
    """Of an entry: of some schedulers' it is an infinity."""
    from evoken.libraries import diffusers

    parameters = inspect.signature(getattr(diffusers, kind, object)).parameters
    return parameters[name].default if name in parameters else None


def _kinds(hint: Any) -> Iterator[type]:
    """The kinds of JSON values that a type hint allows; ``object`` for any."""
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        for one in get_args(hint):
            yield from _kinds(one)
    elif origin is Literal:
        yield from map(_kind, get_args(hint))
    elif origin in (bool, str, NULL):
        yield origin
    elif origin in (int, float):
        yield int
    elif origin in (list, tuple):
        yield list
    elif getattr(origin, "__module__", "") != "numpy":  # JSON holds no arrays
        yield object


def _kind(value: Any) -> type:
    if isinstance(value, float):
        return int
    return list if isinstance(value, tuple) else type(value)


def _numbers(value: Any) -> Iterator[float]:
    """All that are in a value."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
