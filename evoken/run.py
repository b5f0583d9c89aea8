"""The run folder: everything a run did and made, append-only, its own checkpoint.

    config.json             settings, model, versions
    inputs.json, inputs/    names and hashes of the images, and the images as the model saw them
    records.jsonl           one line per generation
    previews/               pictures at fixed seeds, by generation
    learned_embeds.safetensors, README.md, report.html, samples/

Everything after the search reads only this folder.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from evoken import __version__
from evoken.arrays import Images, Vectors
from evoken.errors import RunError
from evoken.files import cannot_write, write_bytes, write_json
from evoken.images import ImageSet, load_images, png, to_pictures
from evoken.models.base import Model, ModelSpec
from evoken.textual_inversion.embedding import WORD_FILE, Word, load_word, save_word
from evoken.textual_inversion.learn import Record
from evoken.textual_inversion.settings import LearnSettings

FORMAT = 1  # of the folder; raised when an older program could misread it


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Within the block, no other process writes to this run folder.

    Raises:
        RunError: one does.
    """
    with (path / "config.json").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError("a run that nothing else is working on", f"{path}, which another "
                           "process has open", "Wait for it, or end it.") from None  # fmt: skip
        except OSError:
            pass  # some network file systems have no locks
        yield


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


def write_inputs(path: Path, images: Images) -> None:
    """Keep pictures in a run folder as the model sees them."""
    for i, picture in enumerate(to_pictures(images)):
        write_bytes(input_path(path, i), png(picture))


def read_inputs(path: Path, count: int, size: int) -> Images:
    """The pictures of a run folder in their own order."""
    return torch.cat([load_images(input_path(path, i), size).images for i in range(count)])


def input_path(path: Path, number: int) -> Path:
    """Where a picture that a run was given is kept."""
    return path / "inputs" / f"{number:02}.png"


def whole_lines(file: Path) -> list[str]:
    """The lines of an append-only file, without one that is being written or that a crash has cut
    off: what it told is done again.
    """
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]


def damaged(file: Path, reason: str) -> RunError:
    """The error for a file of a run that is not as it was written."""
    return RunError("a run folder as it was written", f"damage in {file} ({reason[:200]})",
                    "Restore the file, or run the command again in another folder.")  # fmt: skip


def append_line(file: Path, value: Any) -> None:
    """Write one value as a line of JSON to the end of a file, in place of a line cut off there."""
    line = json.dumps(value, allow_nan=False) + "\n"
    try:
        with file.open("ab+") as lines:
            lines.seek(max(0, lines.tell() - 1))
            if lines.read() not in (b"", b"\n"):
                lines.seek(0)
                lines.truncate(lines.read().rfind(b"\n") + 1)
            lines.write(line.encode("utf-8"))
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
        write_inputs(path, images.images)
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
        return read_inputs(self.path, len(self.inputs), size)

    @property
    def inputs(self) -> list[Path]:
        """The files of the images."""
        names = json.loads((self.path / "inputs.json").read_text(encoding="utf-8"))
        return [input_path(self.path, i) for i in range(len(names))]

    def records(self) -> list[Record]:
        """All whole records; raises ``RunError`` if they are not those of one run in order."""
        file = self.path / "records.jsonl"
        try:
            found = [Record.from_dict(json.loads(line)) for line in whole_lines(file)]
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(file, str(error)) from error
        if (numbers := [r.generation for r in found]) != list(range(len(found))):
            raise damaged(file, f"generations {numbers}")
        return found

    def append(self, record: Record) -> None:
        """Write one generation's record to the end."""
        append_line(self.path / "records.jsonl", record.to_dict())

    def preview_path(self, generation: int) -> Path:
        """Where the preview of a generation is or will be."""
        return self.path / "previews" / f"{generation:04}.png"

    def previews(self) -> Iterator[tuple[int, Path]]:
        """Generation and file of each preview, in order."""
        for path in sorted((self.path / "previews").glob("*.png"), key=lambda p: int(p.stem)):
            yield int(path.stem), path

    def save_word(self, vectors: Vectors, model: Model) -> None:
        """Write the word as it stands now."""
        about = {"model": self.spec.name, "evoken": __version__, "seed": str(self.settings.seed)}
        if model.architecture:
            about["architecture"] = model.architecture
        word = Word(self.settings.placeholder, vectors, model.encoders)
        save_word(self.path / WORD_FILE, word, about)

    def word(self) -> Word:
        """The learned word; raises ``WordError`` if there is none yet."""
        return load_word(self.path)
