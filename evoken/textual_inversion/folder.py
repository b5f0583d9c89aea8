"""The run folder: everything a run did and made, append-only, its own checkpoint.

    config.json             settings, model, hash of its weights, versions
    inputs.json, inputs/    names and hashes of the images, and the images as the model saw them
    records.jsonl           one line per generation
    previews/               pictures at fixed seeds, and their CLIP scores, by generation
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
from evoken.arrays import Images
from evoken.checks import known_fields
from evoken.errors import RunError
from evoken.files import cannot_write, new_folder, write_bytes, write_json
from evoken.images import ImageSet, load_images, png, to_pictures
from evoken.models.base import ModelSpec
from evoken.models.provenance import versions, weights_hash
from evoken.textual_inversion.embedding import WORD_FILE, Word, load_word, save_word
from evoken.textual_inversion.learn import Learner, Record
from evoken.textual_inversion.settings import LearnSettings

FORMAT = 1  # of the folder; raised when an older program could misread it


@contextmanager
def as_written(file: Path) -> Iterator[None]:
    """Within the block, what is not as it was written is told as damage of ``file``, a
    ``RunError``.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(file, f"{type(error).__name__}: {error}") from error


def read_spec(path: Path, config: dict[str, Any]) -> ModelSpec:
    """The model in the ``config.json`` of a run folder.

    Raises:
        RunError: it is damaged.
        SettingError: there are values in it that this version does not know.
    """
    with as_written(path / "config.json"):
        known_fields(ModelSpec, config["model"])
        return ModelSpec(**config["model"])


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
    with as_written(file):
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        found, made_by = config["format"], config.get("command", "learn")
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
            "versions": versions(),
            "weights": weights_hash(spec.name),
            "settings": settings.to_dict(),
            "model": asdict(spec),
            "clip": clip,
        }
        files = zip(images.names, images.hashes, strict=True)
        with new_folder(path) as folder:
            write_inputs(folder, images.images)
            write_json(folder / "inputs.json", [{"name": n, "sha256": h} for n, h in files])
            write_json(folder / "config.json", config)
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
        with as_written(self.path / "config.json"):
            return LearnSettings.from_dict(self.config["settings"])

    @property
    def spec(self) -> ModelSpec:
        """The model that the run learns on."""
        return read_spec(self.path, self.config)

    def check_weights(self) -> None:
        """Raise ``RunError`` if the model's weights are not those that the run began with."""
        began, now = self.config.get("weights", ""), weights_hash(self.spec.name)
        if began and began != now:
            raise RunError(f"{self.spec.name} as it was when the run began",
                           f"other weights ({now[:12] or 'none'}, not {began[:12]})",
                           "Bring them back, or learn the word anew.")  # fmt: skip

    @property
    def clip(self) -> str:
        """Name of the CLIP model."""
        with as_written(self.path / "config.json"):
            return str(self.config["clip"])

    def images(self, size: int) -> Images:
        """The images as the model saw them."""
        return read_inputs(self.path, len(self.inputs), size)

    @property
    def inputs(self) -> list[Path]:
        """The files of the images."""
        file = self.path / "inputs.json"
        with as_written(file):
            names = json.loads(file.read_text(encoding="utf-8"))
            return [input_path(self.path, i) for i in range(len(names))]

    def records(self) -> list[Record]:
        """All whole records; raises ``RunError`` if they are not those of one run in order."""
        file = self.path / "records.jsonl"
        with as_written(file):
            found = [Record.from_dict(json.loads(line)) for line in whole_lines(file)]
        if (numbers := [r.generation for r in found]) != list(range(len(found))):
            raise damaged(file, f"generations {numbers}")
        return found

    def append(self, record: Record) -> None:
        """Write one generation's record to the end."""
        append_line(self.path / "records.jsonl", record.to_dict())

    def score_path(self, generation: int) -> Path:
        """Where the CLIP score of a preview is, if there is one."""
        return self.preview_path(generation).with_suffix(".json")

    def preview_path(self, generation: int) -> Path:
        """Where the preview of a generation is or will be."""
        return self.path / "previews" / f"{generation:04}.png"

    def previews(self) -> Iterator[tuple[int, Path]]:
        """Generation and file of each preview, in order."""
        for path in sorted((self.path / "previews").glob("*.png"), key=lambda p: int(p.stem)):
            yield int(path.stem), path

    def save_word(self, learner: Learner) -> None:
        """Write the word as it stands now, and in its header what it was learned with."""
        settings, model = self.settings, learner.model
        about = {
            "evoken": __version__,
            "model": self.spec.name,
            "weights": self.config.get("weights", ""),
            "architecture": model.architecture,
            "kind": settings.kind,
            "preset": settings.preset,
            "seed": str(settings.seed),
            "generation": str(learner.best_generation),
            "calls": str(learner.calls),
            "validation_loss": f"{learner.best_validation:.6g}",
        }
        word = Word(settings.placeholder, learner.vectors, model.encoders)
        save_word(self.path / WORD_FILE, word, {k: v for k, v in about.items() if v})

    def word(self) -> Word:
        """The learned word; raises ``WordError`` if there is none yet."""
        return load_word(self.path)
