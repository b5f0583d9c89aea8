"""The run folder: everything a run did and made, append-only, its own checkpoint.

    config.json             settings, model, versions
    inputs.json, inputs/    names and hashes of the images, and the images as the model saw them
    records.jsonl           one line per generation
    previews/               pictures at fixed seeds, by generation
    learned_embeds.safetensors, README.md, report.html, samples/

Everything after the search reads only this folder.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evoken import __version__
from evoken.arrays import Images, Vectors
from evoken.errors import RunError
from evoken.files import cannot_write, write_bytes, write_json
from evoken.images import ImageSet, load_images, png, to_pictures
from evoken.models.base import ModelSpec
from evoken.textual_inversion.embedding import WORD_FILE, Word, load_word, save_word
from evoken.textual_inversion.learn import Record
from evoken.textual_inversion.settings import LearnSettings

FORMAT = 1  # of the folder; raised when an older program could misread it


def check_new(path: Path) -> None:
    """Raise ``RunError`` if there is something at ``path`` already."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError("a new folder for the run", f"{path}, which is there already",
                       "Continue it with --resume, or give another with --output.")  # fmt: skip


def read_config(path: Path, *commands: str) -> dict[str, Any]:
    """The ``config.json`` of a run folder made by one of these commands of evoken.

    Raises:
        RunError: the folder is no such run, or one of another format.
    """
    file, expected = path / "config.json", f"a run folder made by 'evoken {' or '.join(commands)}'"
    if not file.is_file():
        raise RunError(expected, f"{path}, which is none",
                       "Check the path.")  # fmt: skip
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        found, made_by = config["format"], config.get("command", "learn")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"a readable {file}", f"{error!r}",
                       "Run the command again in another folder.") from error  # fmt: skip
    if found != FORMAT:
        raise RunError(f"a run of format {FORMAT} (evoken {__version__})",
                       f"format {found} (evoken {config.get('evoken')}) in {path}",
                       "Use that version of evoken, or run the command again.")  # fmt: skip
    if made_by not in commands:
        raise RunError(expected, f"{path}, made by 'evoken {made_by}'", "Check the path.")
    return config


def whole_lines(file: Path) -> list[str]:
    """The lines of an append-only file. A last line that was cut off by a crash is dropped from it,
    so that what it told is done again.
    """
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        write_bytes(file, "".join(whole).encode("utf-8"))
    return whole


def append_line(file: Path, value: Any) -> None:
    """Write one value as a line of JSON to the end of a file."""
    try:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(value, allow_nan=False) + "\n")
            lines.flush()
    except OSError as error:
        raise cannot_write(file, error) from error


class Run:
    """A run folder on disk."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config

    @classmethod
    def create(
        cls, path: Path, settings: LearnSettings, spec: ModelSpec, clip: str, images: ImageSet
    ) -> "Run":
        """Start a folder.

        Raises:
            RunError: there is something at ``path`` already, or it cannot be written.
        """
        check_new(path)
        config = {
            "format": FORMAT,
            "command": "learn",
            "evoken": __version__,
            "settings": settings.to_dict(),
            "model": asdict(spec),
            "clip": clip,
        }
        files = zip(images.names, images.hashes, strict=True)
        for i, picture in enumerate(to_pictures(images.images)):
            write_bytes(path / "inputs" / f"{i:02}.png", png(picture))
        write_json(path / "inputs.json", [{"name": n, "sha256": h} for n, h in files])
        write_json(path / "config.json", config)  # last: with it, the folder is a run
        return cls(path, config)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Open a folder.

        Raises:
            RunError: it is no run, or one of another format.
        """
        return cls(path, read_config(path, "learn"))

    @property
    def settings(self) -> LearnSettings:
        """The settings that the run was started with."""
        return LearnSettings.from_dict(self.config["settings"])

    @property
    def spec(self) -> ModelSpec:
        """The model that the run learns on."""
        return ModelSpec(**self.config["model"])

    @property
    def clip(self) -> str:
        """Name of the CLIP model."""
        return str(self.config["clip"])

    def images(self, size: int) -> Images:
        """The images as the model saw them."""
        return load_images(self.path / "inputs", size).images

    def records(self) -> list[Record]:
        """All whole records."""
        file = self.path / "records.jsonl"
        try:
            return [Record.from_dict(json.loads(line)) for line in whole_lines(file)]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError("whole records", f"damage in {file} ({error})",
                           "Restore the file, or learn the word again.") from error  # fmt: skip

    def append(self, record: Record) -> None:
        """Write one generation's record to the end."""
        append_line(self.path / "records.jsonl", record.to_dict())

    def preview_path(self, generation: int) -> Path:
        """Where the preview of a generation is or will be."""
        return self.path / "previews" / f"{generation:04}.png"

    def previews(self) -> Iterator[tuple[int, Path]]:
        """Generation and file of each preview, in order."""
        for path in sorted((self.path / "previews").glob("*.png")):
            yield int(path.stem), path

    def save_word(self, vectors: Vectors) -> None:
        """Write the word as it stands now."""
        about = {
            "model": self.spec.name, "encoders": self.spec.encoders, "evoken": __version__,
            "seed": str(self.settings.seed),
        }  # fmt: skip
        save_word(self.path / WORD_FILE, Word(self.settings.placeholder, vectors), about)

    def word(self) -> Word:
        """The learned word; raises ``WordError`` if there is none yet."""
        return load_word(self.path)
