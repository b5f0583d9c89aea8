"""Where the file of a word is: in a folder, among the files of diffusers' scripts, on the hub."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from evoken.arrays import PathLike
from evoken.errors import ModelError, WordError, shown
from evoken.images import SUFFIXES as PICTURES
from evoken.images import listing
from evoken.models.hub import fetched, listed

WORD_FILE = "learned_embeds.safetensors"
FOLDER_FILES = (WORD_FILE, "learned_embeds.bin")
SUFFIXES = (".safetensors", ".bin", ".pt")
MAX_BYTES = 2**30
# The files of diffusers' scripts: as learning goes on with the steps so far, and for XL a second
# one with the vectors of its second text encoder.
SCRIPT_FILE = re.compile(
    r"learned_embeds(_2)?(?P<steps>-steps-(\d+))?(?P<kind>\.safetensors|\.bin)"
)
# OWNER/NAME, a revision behind "@", and a file of the repository.
HUB_ID = re.compile(
    r"(?P<repo>\w[\w.-]*/[\w.-]+)(@(?P<revision>refs/\w+/\w+|[^/]+))?(/(?P<file>[^/].*))?"
)


def place_of(path: PathLike) -> tuple[Path, str]:
    """The file of a word, and the name behind "#" of one among several in it, or "".

    Args:
        path: a file; a folder, of which it is the file that diffusers and this program write, and
            of a script's steps the last; a hub id, OWNER/NAME or OWNER/NAME/FILE, with
            "@REVISION" behind NAME or without.

    Raises:
        WordError: there is no such file here or on the hub, or the hub cannot be asked.
    """
    text, name = _parted(os.path.expanduser(path))
    if not text:
        raise WordError("the place of a word must not be empty.", "Give its file or run folder.")
    whole = Path(text)
    file = whole / (main_file(p.name for p in whole.iterdir()) or "") if whole.is_dir() else whole
    if file.is_file():
        return file, name
    if (match := HUB_ID.fullmatch(text)) and _may_be_of_hub(match):
        return _file_of_hub(match), name
    raise WordError(
        f"there is no run folder or embedding file with a word at {shown(whole)}.",
        "Learn a word with: evoken learn FOLDER",
    )


def names_word(text: str) -> bool:
    """Whether a text is the place of a learned word, for ``place_of``, and not a word or phrase: it
    has a slash in it or ends as such a file does, or there is a file of that name, or a folder with
    a word in it. A folder of pictures called "cat" does not make a place of "cat".
    """
    text, _ = _parted(os.path.expanduser(text))
    if "/" in text or text.lower().endswith((*SUFFIXES, *PICTURES)) or os.path.isfile(text):
        return True
    try:
        return main_file(os.listdir(text)) is not None
    except (OSError, ValueError):  # no folder, one that may not be read, or no name of any
        return False


def _parted(path: str) -> tuple[str, str]:
    """The place of a file, and the name of a word in it behind "#", or ""."""
    place, _, name = path.rpartition("#")
    return (place, name) if place and not os.path.exists(path) else (path, "")


def main_file(names: Iterable[str]) -> str | None:
    """The word's file among the files of a folder: of a script's steps the last."""
    there = set(names)
    steps = [m for name in there if (m := SCRIPT_FILE.fullmatch(name)) and m[3]]
    last = [max(steps, key=lambda m: (int(m[3]), not m[1], m.string)).string] if steps else []
    return next((name for name in (*FOLDER_FILES, *last) if name in there), None)


def second_of(file: Path) -> Path | None:
    """The other one of the two files that diffusers' script for XL writes, if it is there."""
    name = _second_name(file.name)
    return file.with_name(name) if name and file.with_name(name).is_file() else None


def _second_name(name: str) -> str:
    match = SCRIPT_FILE.fullmatch(name)
    if match is None:
        return ""
    return f"learned_embeds{'' if match[1] else '_2'}{match['steps'] or ''}{match['kind']}"


def _may_be_of_hub(match: re.Match[str]) -> bool:
    """Not if its first part is a folder here, where the rest is misspelt, or if it is the name of
    a file in a folder.
    """
    is_file = not match["file"] and match.string.lower().endswith(SUFFIXES)
    return not is_file and not Path(match["repo"].partition("/")[0]).exists()


def _file_of_hub(match: re.Match[str]) -> Path:
    """The file on this machine, fetched if it is not there yet, with the second one beside it."""
    repo, file = match["repo"], match["file"]
    name = f"{repo}@{match['revision']}" if match["revision"] else repo
    try:
        sizes = listed(name, (file,) if file else FOLDER_FILES)
        if isinstance(sizes, Path):
            return sizes
        chosen = file or main_file(sizes)
        if chosen not in sizes:
            raise _not_on_hub(name, file, sizes)
        for part in filter(sizes.__contains__, (_second_name(chosen), chosen)):
            check_size(Path(part), sizes[part] or 0)
            found = fetched(name, part)
        return found
    except ModelError as error:
        raise WordError(*error.args) from error


def _not_on_hub(name: str, file: str | None, there: Iterable[str]) -> WordError:
    others = sorted(f"{name}/{n}" for n in there if n.lower().endswith(SUFFIXES))[:4]
    return WordError(
        f"{shown(name, 200)} of the hub has no {shown(file) if file else ' or '.join(FOLDER_FILES)}"
        ".",
        f"Give a file of it: {listing(others, 'or')}." if others else "Check the name.",
    )


def check_size(file: Path, size: int) -> None:
    """Raise ``WordError`` for more bytes than a word's file has."""
    if size > MAX_BYTES:
        raise WordError(
            f"{shown(file)} has {size // 2**20:,} MB, but an embedding file at most "
            f"{MAX_BYTES // 2**20:,} MB.",
            "Give the word's own file.",
        )
