"""What every run folder is: a config, the pictures as the model saw them, append-only records."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from evoken.annotations import Annotations, together
from evoken.arrays import Images, Masks
from evoken.decoding import decode_mask
from evoken.errors import RunError, one_line, shown
from evoken.files import cannot_write, check_can_write, write_bytes
from evoken.images import load_images, mask_levels, png, to_mask, to_pictures
from evoken.models.provenance import weights_hash
from evoken.options import make
from evoken.spec import ModelSpec
from evoken.version import __version__

FORMAT = 1  # of the folder; raised when an older program could misread it


@dataclass(frozen=True)
class Summary:
    """A run in a line.

    Attributes:
        command: "learn", "invert" or "edit".
        about: the word, or the prompts.
        model: its name, without a path.
        state: "finished", "interrupted" or "running".
        done, total: how far the run is, and how far it may go, counted in ``unit``.
        calls: of the denoiser so far.
        loss: the result's validation loss, or of an inversion or an edit the lowest residual, mean
            over pictures; None before the first record.
        clip: the last CLIP score; None where none was measured.
        date: when it began; "" if an older folder does not say.
    """

    command: str
    about: str
    model: str
    state: str
    done: int
    total: int
    unit: str
    calls: int
    loss: float | None
    clip: float | None
    date: str


@contextmanager
def as_written(file: Path) -> Iterator[None]:
    """Within the block, what is not as it was written is damage of ``file``, a ``RunError``."""
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
        return make(ModelSpec, config["model"])


def check_weights(config: Mapping[str, Any], spec: ModelSpec) -> None:
    """Raise ``RunError`` if the model's weights are not those that a run began with; the runs of
    earlier versions do not all say which.
    """
    began, found = config.get("weights", ""), weights_hash(spec.name)
    if began and began != found:
        raise RunError(
            f"the weights of {shown(spec.name)} are not those that the run started with "
            f"({found[:12] or 'none'}, not {shown(began[:12])}).",
            "Restore them, or run the command again in another folder.",
        )


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
            raise RunError(
                f"another process is working on {shown(path)}.", "Wait for it, or end it."
            ) from None
        except OSError:
            pass  # some network file systems have no locks
        yield


def is_held(path: Path) -> bool:
    """Whether a process writes to this run folder; False too where there are no locks."""
    with (path / "config.json").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
    return False


def state_of(path: Path, finished: bool) -> str:
    """Whether a run is "finished", "interrupted" or "running"."""
    if is_held(path):
        return "running"
    return "finished" if finished else "interrupted"


def is_run_folder(path: Path) -> bool:
    """Whether a folder is one that a run left, whole or damaged."""
    kept = (path / "config.json", path / "records.jsonl")
    return (path / "inputs").is_dir() and any(map(Path.is_file, kept))


def run_folders(path: Path) -> list[Path]:
    """The run folders at and below a folder, by name, whole or damaged.

    Raises:
        RunError: there is no such folder.
    """
    if not path.is_dir():
        raise RunError(
            f"there is no folder {shown(path)}.", "Give the folder that your runs are in."
        )
    found = []
    for place, folders, _ in os.walk(path):
        if is_run := is_run_folder(Path(place)):
            found.append(Path(place))
        # What is still being made has a name with a dot.
        folders[:] = [] if is_run else [name for name in folders if not name.startswith(".")]
    return sorted(found)


def command_of(path: Path) -> str:
    """The command that made a run folder; raises ``RunError`` if that cannot be read."""
    with as_written(path / "config.json"):
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return str(config.get("command", "learn"))


def now() -> str:
    """The date and the time of day in UTC, as a ``config.json`` holds them."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def date_of(config: Mapping[str, Any]) -> str:
    """The day on which a run began, such as "2026-05-31"; "" if an older folder does not say."""
    return str(config.get("began", ""))[:10]


def made(config: Mapping[str, Any]) -> str:
    """When and with what a run was made, as the end of a sentence; "" if it does not say."""
    said, date = config.get("versions", {}), date_of(config)
    known = [f"{name} {said[name]}" for name in ("evoken", "torch", "diffusers") if name in said]
    *most, last = known or [""]
    parts = (f"on {date}" if date else "", f"with {', '.join(most)} and {last}" if most else "")
    return " ".join(filter(None, parts))


def name_of(path: Path) -> str:
    """A run folder's own name, which may be published where its path may not."""
    return path.resolve().name


def check_free(file: Path, force: bool) -> None:
    """Raise ``RunError`` if there is a file already that may not be overwritten, or if none can be
    written there.
    """
    if os.path.isdir(file):
        raise RunError(f"{shown(file)} is a folder.", "Choose the name of a file with `output`.")
    if os.path.lexists(file) and not force:
        raise RunError(
            f"{shown(file)} already exists.",
            "Choose another file with `output`, or overwrite it with `force`.",
        )
    check_can_write(file)


def check_new(path: Path) -> None:
    """Raise ``RunError`` if there is something at ``path`` already, or if nothing can be written
    there.
    """
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise RunError(
            f"{shown(path)} already exists.",
            "Choose another folder with `output`, or continue this run with `resume`.",
        )
    check_can_write(path)


def read_config(path: Path, *commands: str) -> dict[str, Any]:
    """The ``config.json`` of a run folder made by one of these commands of evoken.

    Raises:
        RunError: the folder is no such run, or one of another format.
    """
    file, expected = path / "config.json", f"a run folder made by 'evoken {' or '.join(commands)}'"
    if not file.is_file():
        raise RunError(f"{shown(path)} is not {expected}.", "Check the path.")
    with as_written(file):
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        found, made_by = config["format"], config.setdefault("command", "learn")
    if found != FORMAT:
        raise RunError(
            f"{shown(path)} is a run of format {shown(found)} (evoken "
            f"{shown(config.get('evoken'))}), but this is evoken {__version__}, which reads "
            f"format {FORMAT}.",
            "Use that version of evoken, or run the command again.",
        )
    if made_by not in commands:
        raise RunError(
            f"{shown(path)} is not {expected}: it was made by {shown(f'evoken {made_by}')}.",
            "Check the path.",
        )
    return config


def write_inputs(path: Path, images: Images) -> None:
    """Keep pictures in a run folder as the model sees them."""
    for i, picture in enumerate(to_pictures(images)):
        write_bytes(input_path(path, i), png(picture))


def read_inputs(path: Path, count: int, size: int) -> Images:
    """The pictures of a run folder in their own order."""
    files = (input_path(path, i) for i in range(count))
    return torch.cat([load_images(f, size, masks=False, captions=False).images for f in files])


def write_masks(path: Path, annotations: Annotations) -> None:
    """Keep the masks of pictures in a run folder beside them."""
    for i, masked in enumerate(annotations.masked):
        if masked and annotations.masks is not None:
            write_bytes(mask_path(path, i), png(to_mask(annotations.masks[i])))


def read_masks(path: Path, masked: Sequence[bool]) -> Masks | None:
    """The masks of a run folder, N x 1 x S x S.

    Args:
        masked: which pictures have one.

    Raises:
        RunError: one is not as it was written.
    """
    found: list[Masks | None] = []
    for i, has_one in enumerate(masked):
        file = mask_path(path, i)
        with as_written(file):
            found.append(mask_levels(decode_mask(file.read_bytes(), file)) if has_one else None)
    return together(found, []).masks


def mask_path(path: Path, number: int) -> Path:
    """Where the mask of a picture that a run was given is kept, if it has one."""
    return path / "inputs" / f"{number:02}-mask.png"


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
    return RunError(
        f"{shown(file)} is damaged ({one_line(reason)}).",
        "Restore the file, or run the command again in another folder.",
    )


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
