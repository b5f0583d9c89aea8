"""Damage of files: of their bytes, of the JSON or YAML in them, and of what stands in their place.

Everything is drawn from the generator that is given, so that the same number is the same damage.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Random = np.random.Generator

DEEP = "@@deep@@"
CONTROL = "\x1b[2J\x07\u202e\u0000\ud7ff\n\r\t"
WRONG: list[Any] = [
    *(None, True, False, [], {}, "", "x", "../../etc", [1], {"a": 1}, "5", CONTROL, "y" * 5000),
    *(0, -1, 1, 2, 0.5, 1e308, -1e308, 2**63, 10**9, 10**40, 1e-320),
    *(float("nan"), float("inf"), DEEP),
]


def pick(random: Random, values: Sequence[T]) -> T:
    """One of them."""
    return values[int(random.integers(len(values)))]


def damaged_bytes(content: bytes, random: Random) -> tuple[bytes, str]:
    """Bytes with something wrong, and what."""
    size = len(content)
    at = int(random.integers(size)) if size else 0
    many = int(random.integers(1, 65))
    kind = pick(random, ("flip", "flips", "cut", "twice", "zeros", "empty", "noise", "control"))
    if kind in ("flip", "flips") and size:
        changed = bytearray(content)
        for _ in range(1 if kind == "flip" else many):
            place = int(random.integers(size))
            changed[place] ^= 1 << int(random.integers(8))
        return bytes(changed), kind
    if kind == "cut":
        return content[:at], f"cut at {at}"
    if kind == "twice":
        return content + content, kind
    if kind == "zeros":
        return content[:at] + bytes(many) + content[at + many :], f"{many} zeros at {at}"
    if kind == "noise":
        return content[:at] + random.bytes(many) + content[at + many :], f"noise at {at}"
    if kind == "control":
        return content[:at] + CONTROL.encode() + content[at:], f"control at {at}"
    return b"", "empty"


def damaged_value(value: Any, random: Random) -> tuple[Any, str]:
    """A JSON value with one thing in it that is wrong, and what."""
    places = list(_places(value))
    kind = pick(random, ("wrong", "wrong", "wrong", "missing", "more", "renamed", "whole"))
    if kind == "whole" or not places:
        other = pick(random, WRONG)
        return other, f"all is {_brief(other)}"
    parent, key = pick(random, places)
    name = f"{key!r:.40}"
    if kind == "missing":
        del parent[key]
    elif kind == "more":
        extra = pick(random, ("wings", CONTROL, "y" * 5000, ""))
        if isinstance(parent, dict):
            parent[extra] = pick(random, WRONG)
        else:
            parent.append(pick(random, WRONG))
    elif kind == "renamed" and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    else:
        other = pick(random, WRONG)
        parent[key] = other
        return value, f"{name} is {_brief(other)}"
    return value, f"{name} {kind}"


def _places(value: Any) -> Any:
    """Every container and key in a JSON value; of large ones, the first."""
    keys = list(value)[:40] if isinstance(value, dict) else []
    keys = list(range(min(len(value), 40))) if isinstance(value, list) else keys
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _brief(value: Any) -> str:
    return f"{value!r:.24}"


def as_text(value: Any, random: Random) -> str:
    """JSON, in which a mark becomes a value that is nested deeply."""
    depth = pick(random, (40, 2_000, 200_000))
    text = json.dumps(value, indent=pick(random, (None, 1)))
    return text.replace(f'"{DEEP}"', "[" * depth + "]" * depth)


def shuffled(value: Any, random: Random) -> Any:
    """A JSON value with the keys of all objects in another order, which says the same."""
    if isinstance(value, dict):
        keys = [list(value)[i] for i in random.permutation(len(value))]
        return {key: shuffled(value[key], random) for key in keys}
    return [shuffled(v, random) for v in value] if isinstance(value, list) else value


def damaged_text(text: str, read: Callable[[str], Any], random: Random) -> tuple[str, str]:
    """JSON or YAML with something wrong in what it says; JSON is YAML as well."""
    value = read(text)
    if random.random() < 0.15:
        return as_text(shuffled(value, random), random), "shuffled"
    value, what = damaged_value(value, random)
    return as_text(value, random), what


def in_place_of(file: Path, others: Sequence[Path], random: Random) -> str:
    """Put something else where a file is; returns what."""
    kinds = ["missing", "folder", "loop", "to nothing", "zero", "pipe", "text", "swapped"]
    kind = pick(random, kinds if len(others) else kinds[:-1])
    other = pick(random, others) if kind == "swapped" else file
    content = other.read_bytes()
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind == "to nothing":
        file.symlink_to("nowhere")
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "text":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    elif kind == "swapped":
        file.write_bytes(content)
        return f"swapped with {other.name}"
    return kind


def damage(file: Path, others: Sequence[Path], random: Random) -> str:
    """Damage a file; returns how.

    Args:
        others: files that it may be exchanged with.
    """
    way = pick(random, ("bytes", "bytes", "place", "text", "text"))
    if way == "place":
        return in_place_of(file, [o for o in others if o != file], random)
    content = file.read_bytes()
    if way == "text" and file.suffix in (".json", ".yaml", ".jsonl"):
        import yaml

        read = yaml.safe_load if file.suffix == ".yaml" else json.loads
        text = content.decode()
        if file.suffix == ".jsonl":
            lines = text.splitlines(keepends=True)
            i = int(random.integers(len(lines)))
            lines[i], what = damaged_text(lines[i], read, random)
            text = "".join(line if line.endswith("\n") else line + "\n" for line in lines)
        else:
            text, what = damaged_text(text, read, random)
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        return what
    content, what = damaged_bytes(content, random)
    file.write_bytes(content)
    return what


def copy(source: Path, target: Path) -> Path:
    """A file or folder to be damaged, in place of what the whole was."""
    if source.is_dir():
        return Path(shutil.copytree(source, target))
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))
