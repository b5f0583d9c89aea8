"""What every run folder is: a config, the pictures as the model saw them, append-only records."""

import fcntl
import hashlib
import json
import os
import time
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
from evoken.documents import read_json
from evoken.errors import RunError, shown
from evoken.files import check_can_write, remove_partial, write_bytes, write_json
from evoken.images import load_images, mask_levels, png, to_mask, to_pictures
from evoken.models.provenance import ALSO, CLIP, file_hash, part_hashes, versions, weights_hash
from evoken.options import make
from evoken.records import damaged
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
        gain: how far a word's loss is below that of no word at all, where that was measured.
        score: of the last preview of a word, see ``evoken.pictures.shown``; of an edit, CLIP's
            agreement with the target; None where none was measured.
        date: when it began; "" if an older folder does not say.
        left: seconds until "total" at the pace so far; None where there is no pace.
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
    gain: float | None
    score: float | None
    date: str
    left: float | None


@contextmanager
def as_written(file: Path) -> Iterator[None]:
    """Within the block, what is not as it was written is damage of ``file``, a ``RunError``."""
    try:
        yield
    except (OSError, ArithmeticError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged(file, f"{type(error).__name__}: {error}") from error


def read_spec(path: Path, config: dict[str, Any]) -> ModelSpec:
    """The model in the ``config.json`` of a run folder.

    Raises:
        RunError: it is damaged.
        SettingError: there are values in it that this version does not know.
    """
    with as_written(path / "config.json"):
        return make(ModelSpec, config["model"])


def seal(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Write the ``config.json`` of a new run folder, in which everything else lies already, with
    the hashes of all that; returns it.
    """
    files = {
        file.relative_to(folder).as_posix(): file_hash(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    return write_config(folder, config | {"files": files})


def write_config(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Write a ``config.json`` with its checksum; returns it."""
    sealed = dict(config) | {"checksum": _checksum(config)}
    write_json(folder / "config.json", sealed)
    return sealed


def is_sealed(config: Mapping[str, Any]) -> bool:
    """Whether a run folder has checksums; those of earlier versions have none."""
    return "checksum" in config


def _checksum(config: Mapping[str, Any]) -> str:
    """Of what decides about the result, but for where models are: they have hashes of their own,
    and may have been moved.
    """
    kept = {k: v for k, v in config.items() if k not in ("checksum", "began", "clip")}
    if isinstance(config.get("model"), Mapping):
        kept["model"] = {k: v for k, v in config["model"].items() if k != "name"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def check_unchanged(path: Path, config: Mapping[str, Any], spec: ModelSpec) -> None:
    """Raise ``RunError`` unless a run can be continued to what it would have become: settings,
    pictures and models are those that it began with. The runs of earlier versions do not say all.
    """
    if is_sealed(config) and config["checksum"] != _checksum(config):
        raise RunError(
            f"{shown(path / 'config.json')} was changed after the run began.",
            "Restore it, or run the command again in another folder.",
        )
    for name, expected in config.get("files", {}).items():
        file = path / name
        with as_written(file):
            if file_hash(file) != expected:
                raise damaged(file, "it was changed after the run began")
    began, found = config.get("weights", ""), weights_hash(spec.name)
    if began and began != found:
        raise RunError(
            f"the weights of {shown(spec.name)} are not those that the run started with "
            f"({found[:12] or 'none'}, not {shown(began[:12])}).",
            "Restore them, or run the command again in another folder.",
        )
    also = config.get("settings", {}).get("also", "")
    now_there = part_hashes(spec.name, config.get("clip", ""), also)
    for name, expected in config.get("parts", {}).items():
        if now_there.get(name) != expected:
            with as_written(path / "config.json"):
                where = {CLIP: config["clip"], ALSO: also}.get(name, spec.name)
            raise RunError(
                f"the {name} of {shown(where)} is not the one that the run started with.",
                "Restore it, or run the command again in another folder.",
            )


def said_of_versions(config: Mapping[str, Any]) -> str:
    """A note where a run goes on with other versions than it began with; "" where it does not."""
    began, here = config.get("versions", {}), versions()
    other = [f"{n} {shown(began[n])}" for n in here if n in began and began[n] != here[n]]
    if not other:
        return ""
    return (
        f"Note: the run began with {' and '.join(other)}; with other versions its last digits may "
        "differ."
    )


LOOKS, LOOK = 10, 0.05  # for a lock, and seconds between them


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Within the block, no other process writes to this run folder.

    Raises:
        RunError: one does, or nothing can be written there.
    """
    with (path / "config.json").open("rb") as file:
        for left in reversed(range(LOOKS)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # who only looks (``is_held``) has a lock for a moment, too
                if not left:
                    raise RunError(
                        f"another process is working on {shown(path)}.", "Wait for it, or end it."
                    ) from None
                time.sleep(LOOK)
            except OSError:
                break  # some network file systems have no locks
            else:
                break
        check_can_write(path / "config.json")
        remove_partial(path)  # of an earlier process of this run
        yield


def is_held(path: Path) -> bool:
    """Whether a process writes to this run folder; False too where there are no locks, and where no
    run has begun.
    """
    try:
        file = (path / "config.json").open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return False
    with file:
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
        config = read_json(path / "config.json")
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
    return Path(os.path.realpath(path)).name


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
    check_can_write(file, "Choose another file with `output`.")


def check_new(path: Path) -> None:
    """Raise ``RunError`` if there is something at ``path`` already, or if nothing can be written
    there.
    """
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise RunError(
            f"{shown(path)} already exists.",
            "Choose another folder with `output`, or continue this run with `resume`.",
        )
    check_can_write(path, "Choose another folder with `output`.")


def read_config(path: Path, *commands: str) -> dict[str, Any]:
    """The ``config.json`` of a run folder made by one of these commands of evoken.

    Raises:
        RunError: the folder is no such run, or one of another format.
    """
    *most, last = commands
    made = f"{', '.join(most)} or {last}" if most else last
    file, expected = path / "config.json", f"a run folder made by 'evoken {made}'"
    if not file.is_file():
        why = "" if path.exists() else ": it does not exist"
        raise RunError(f"{shown(path)} is not {expected}{why}.", "Check the path.")
    with as_written(file):
        config: dict[str, Any] = read_json(file)
        found, made_by = config["format"], config.setdefault("command", "learn")
    if found != FORMAT:
        raise RunError(
            f"{shown(path)} is a run of format {shown(found)} (evoken "
            f"{shown(config.get('evoken'))}), but this is evoken {__version__}, which reads "
            f"format {FORMAT}.",
            "Use that version of evoken, or run the command again.",
        )
    if link := next((p for p in path.rglob("*") if p.is_symlink()), None):
        raise RunError(
            f"{shown(link)} is a link, and what a run writes would go where it leads.",
            "Put the file or folder itself in its place.",
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
