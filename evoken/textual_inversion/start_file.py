"""The learned word that a run started from, as the run folder keeps it: a run needs nothing from
outside to go on.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evoken.errors import RunError, shown
from evoken.models.provenance import file_hash
from evoken.run_folder import as_written, name_of
from evoken.textual_inversion.settings import LearnSettings
from evoken.words.word import Word, load_word, save_word

START_FILE = "start.safetensors"


def keep_start(folder: Path, start: Word, settings: LearnSettings) -> dict[str, str]:
    """Write the word into a run folder, under the new word's placeholder, which every program can
    read; returns what ``config.json`` says of it, without a path.
    """
    save_word(folder / START_FILE, replace(start, placeholder=settings.placeholder))
    return {
        "placeholder": start.placeholder,
        "name": name_of(Path(settings.start)),
        "sha256": file_hash(folder / START_FILE),
    }


def kept_start(folder: Path, config: Mapping[str, Any]) -> Word:
    """The word in a run folder.

    Raises:
        RunError: it is not there, or not as it was written.
    """
    file = folder / START_FILE
    with as_written(folder / "config.json"):
        written = config["start"]["sha256"]
    if not file.is_file() or file_hash(file) != written:
        raise RunError(
            f"{shown(file)}, the word that the run started from, is "
            f"{'not as it was written' if file.is_file() else 'missing'}.",
            "Restore the file, or run the command again in another folder.",
        )
    return load_word(file)
