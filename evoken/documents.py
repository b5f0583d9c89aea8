"""JSON and YAML, also of strangers: what they unfold to is bounded before anything looks at it."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 20  # of a file; one with a thousand edits has a tenth of that
MOST_VALUES = 100_000  # in a document; aliases of YAML count wherever they stand
MOST_DEPTH = 30
Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


class TooDeepError(ValueError):
    """A document is nested too deeply."""

    def __init__(self) -> None:
        super().__init__(f"it is nested more than {MOST_DEPTH} deep")


def read_json(file: Path) -> Any:
    """What a file of JSON holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, too large or too deep.
    """
    return _bounded(parse_json(_text(file)))


def parse_json(text: str) -> Any:
    """What a text of JSON holds; ``ValueError`` if it is none, or too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise TooDeepError from None


def read_yaml(file: Path) -> Any:
    """What a file of YAML holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no YAML, too large or too deep, or its aliases unfold to too much.
    """
    text = _text(file)
    try:
        _check_depth(text)  # first: the loader calls itself at every level, on the stack of C
        found = yaml.load(text, Loader)  # noqa: S506  # a safe one
    except TooDeepError:
        raise
    except Exception as error:  # dates and numbers that are none: of what kind depends
        problem = getattr(error, "problem", None) or "it is not YAML"
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"{problem}{f' in line {mark.line + 1}' if mark else ''}") from error
    return _bounded(found)


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise TooDeepError


def _at_once(name: str, flags: int) -> int:
    """Open without waiting for somebody who writes into a pipe."""
    return os.open(name, flags | os.O_NONBLOCK)


def _text(file: Path) -> str:
    with open(file, "rb", opener=_at_once) as stream:  # a device does not say how much it holds
        os.set_blocking(stream.fileno(), True)
        content = stream.read(MOST_BYTES + 1)
        if not content and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
            raise ValueError("it is a pipe into which nothing is written")
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes, the most that are read")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None


def _bounded(document: Any) -> Any:
    """The document; ``ValueError`` if it is endless when it is written out."""
    rest, count = [(document, 0)], 0
    while rest:
        value, depth = rest.pop()
        count += 1
        if count > MOST_VALUES:
            raise ValueError(f"it unfolds to more than {MOST_VALUES:,} values")
        if depth > MOST_DEPTH:
            raise TooDeepError
        if isinstance(value, Mapping):
            rest += [(inner, depth + 1) for inner in (*value.keys(), *value.values())]
        elif isinstance(value, list | tuple | set):
            rest += [(inner, depth + 1) for inner in value]
    return document
