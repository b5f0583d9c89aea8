"""The folder of an inversion or an edit: append-only, its own checkpoint.

config.json         command, settings, model, prompts, names and hashes of the pictures
inputs/             the pictures as the model saw them; word.safetensors and word-1.safetensors
                    if words are used
originals/          of an edit, the pictures as they were given: what results are put into
masks/              of an edit, white where a picture may change
records.jsonl       one line per iterate
states/             z and f(z) of every iterate, and the way of the pictures up the process: what a
                    resumed run starts from
iterates/           NN-III.png, iterate III of picture NN
noise.safetensors   of an inversion the best z of every picture, of an edit where the inversion led
picked/, report.html, curves.csv
saved_info/         if wanted, the pictures as the official script calls them
"""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import count, takewhile
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from evoken.arrays import Latents, PathLike
from evoken.decoding import decode_mask
from evoken.errors import RunError, SettingError, reason_of, shown
from evoken.files import new_folder, shortened, write_bytes
from evoken.flowopt.edit import Iterate, Task
from evoken.flowopt.given import Given
from evoken.flowopt.optimize import Evaluated
from evoken.flowopt.originals import Originals, keep, mask_path, original_path
from evoken.flowopt.record import record_of, suggestion_of
from evoken.flowopt.settings import FlowOptSettings
from evoken.flowopt.usage import about_noise, header
from evoken.images import png, to_pictures
from evoken.models.base import Model
from evoken.models.provenance import (
    file_hash,
    part_hashes,
    versions,
    weights_hash,
)
from evoken.pictures.frame import Frame, frame_of
from evoken.records import append_record, damaged, read_records
from evoken.run_folder import (
    FORMAT,
    as_written,
    check_new,
    check_unchanged,
    input_path,
    is_sealed,
    now,
    read_config,
    read_inputs,
    read_spec,
    seal,
    write_inputs,
)
from evoken.spec import ModelSpec
from evoken.version import __version__
from evoken.words.files import safetensors_bytes
from evoken.words.word import load_word, save_word

COMMANDS = ("invert", "edit")
BEFORE_MASKS = {"everywhere": True, "frame": "middle"}  # of runs whose settings do not say


def _word_file(folder: Path, i: int) -> Path:
    """Where the i-th word of an edit is or will be."""
    return folder / (f"word-{i}.safetensors" if i else "word.safetensors")


class FlowOptRun:
    """The run folder of an inversion or an edit; ``pick()`` copies finished pictures."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config
        self.beginning: dict[str, Any] = {}  # what the first record says beside its iterate
        self.originals: Originals | None = None  # what results are put into

    def __repr__(self) -> str:
        return f"<FlowOptRun {self.path}: {self.config.get('command')} on {self.spec.name}>"

    @classmethod
    def create(
        cls,
        path: Path,
        given: Given,
        settings: FlowOptSettings,
        model: Model,
        clip: str,
        note: str = "",
        saved_info: Mapping[str, str] | None = None,
    ) -> "FlowOptRun":
        """Start a folder.

        Args:
            clip: name of a CLIP model.
            note: what the report is to say of the pictures; "" for nothing.
            saved_info: the official script's exp_name and model_type, for its folders of pictures;
                None to leave them out.

        Raises:
            RunError: ``path`` exists already, or cannot be written.
        """
        check_new(path)
        task, images, spec = given.task, given.images, model.spec
        rows = zip(images.names, images.hashes, images.sizes, strict=True)
        config = {
            "format": FORMAT,
            "command": "edit" if task.targets else "invert",
            "evoken": __version__,
            "began": now(),
            "versions": versions(),
            "weights": weights_hash(spec.name),
            "parts": part_hashes(spec.name, clip),
            "settings": settings.to_dict(),
            "model": asdict(spec),
            "precision": model.precision,
            "clip": clip,
            "pictures": [{"name": n, "sha256": h, "size": list(size)} for n, h, size in rows],
            "sources": list(task.sources),
            "targets": list(task.targets),
            "noise": about_noise(model, settings, task),
        }
        if note:
            config["note"] = note
        if saved_info:
            config["saved_info"] = dict(saved_info)
        with new_folder(path) as folder:
            write_inputs(folder, task.images)
            if task.targets:
                keep(folder, given)
            for i, word in enumerate(task.words):
                save_word(_word_file(folder, i), word, {"model": spec.name})
            sealed = seal(folder, config)
        return cls(path, sealed)

    @classmethod
    def open(cls, path: PathLike) -> "FlowOptRun":
        """Open a folder; raises ``RunError`` if it is no run folder, or one of another format."""
        config = read_config(Path(path), *COMMANDS)
        with as_written(Path(path) / "config.json"):
            names = [picture["name"] for picture in config["pictures"]]
            texts = [config["clip"], *names, *config["sources"], *config["targets"]]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("there is no text where one is expected")
        return cls(Path(path), config)

    @property
    def settings(self) -> FlowOptSettings:
        """The settings that the run was started with."""
        with as_written(self.path / "config.json"):
            return FlowOptSettings.from_dict(BEFORE_MASKS | self.config["settings"])

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return read_spec(self.path, self.config)

    def check_unchanged(self) -> None:
        """Raise ``RunError`` unless settings, pictures and models are those that it began with."""
        check_unchanged(self.path, self.config, self.spec)

    def task(self, size: int) -> Task:
        """Pictures and prompts."""
        files = takewhile(Path.exists, (_word_file(self.path, i) for i in count()))
        words = tuple(load_word(file) for file in files)
        with as_written(self.path / "config.json"):
            sources, targets = tuple(self.config["sources"]), tuple(self.config["targets"])
            pictures = len(self.config["pictures"])
        frames = self.frames(size)
        seen = torch.cat([frame.seen for frame in frames]) if frames else None
        return Task(read_inputs(self.path, pictures, size), sources, targets, words, seen)

    def frames(self, side: int) -> list[Frame]:
        """How the model sees each picture; none for a run that does not say how large they are."""
        what, found = self.settings.frame, []
        with as_written(self.path / "config.json"):
            for i, about in enumerate(self.config["pictures"]):
                if size := about.get("size"):
                    mask = self.mask(i) if what == "mask" else None
                    found.append(frame_of(what, (size[0], size[1]), side, mask))
        return found

    def given(self, number: int) -> Path:
        """Where a picture is as it was given, or else as the model saw it."""
        file = original_path(self.path, number)
        return file if file.is_file() else input_path(self.path, number)

    def mask(self, number: int) -> Image.Image:
        """Where a picture of an edit may change, of its own size."""
        file = mask_path(self.path, number)
        with as_written(file):
            return decode_mask(file.read_bytes(), file)

    def records(self) -> list[dict[str, Any]]:
        """The lines of ``records.jsonl``, one per iterate; raises ``RunError`` if they are not."""
        file = self.path / "records.jsonl"
        with as_written(file):
            found = read_records(file, is_sealed(self.config))
            numbers = [record["iteration"] for record in found]
        if numbers != list(range(len(found))):
            raise damaged(file, f"iterates {numbers}")
        return found

    def earlier(self) -> list[Evaluated]:
        """What f gave at every recorded iterate; raises ``RunError`` if that is not there."""
        found = []
        for record in self.records():
            file = self._state(record["iteration"])
            try:
                if (written := record.get("state")) and file_hash(file) != written:
                    raise damaged(file, "it is not as it was written")
                self._check_pictures(record)
                state = load_file(file)
                found.append(Evaluated(state["latents"], state["result"], record["calls"]))
            except (OSError, SafetensorError, KeyError) as error:
                raise damaged(file, reason_of(error)) from error
        return found

    def _check_pictures(self, record: dict[str, Any]) -> None:
        """Raise ``RunError`` if a picture of an iterate is another than was written; those of
        earlier versions have no hash.
        """
        for i, written in enumerate(record.get("pictures", [])):
            file = self.picture(i, record["iteration"])
            try:
                if file_hash(file) != written:
                    raise damaged(file, "it is not as it was written")
            except OSError as error:
                raise damaged(file, reason_of(error)) from error

    def _state(self, iteration: int) -> Path:
        return self.path / "states" / f"{iteration:03}.safetensors"

    def picture(self, picture: int, iteration: int) -> Path:
        """Where an iterate of a picture is or will be."""
        return self.path / "iterates" / f"{picture:02}-{iteration:03}.png"

    def save(self, iterate: Iterate) -> None:
        """Write an iterate; its record comes last and makes it count."""
        step, number = iterate.step, iterate.number
        files = [self.picture(i, number) for i in range(len(iterate.images))]
        for i, file in enumerate(files):
            write_bytes(file, self._finished(i, iterate))
        state = {"latents": step.latents, "result": step.result}
        write_bytes(self._state(number), contents(state))
        self.save_noise(iterate)
        record = record_of(iterate) | {
            "state": file_hash(self._state(number)),
            "pictures": [file_hash(file) for file in files],
            **(self.beginning if number == 0 else {}),
        }
        append_record(self.path / "records.jsonl", record, is_sealed(self.config))

    def _finished(self, i: int, iterate: Iterate) -> bytes:
        """A PNG of the i-th picture: put into its original, where that is kept."""
        drawn, rebuilt = iterate.drawn[i : i + 1], iterate.rebuilt[i : i + 1]
        if self.originals is None:
            return png(to_pictures(drawn)[0])
        return self.originals.finished(i, drawn, rebuilt)

    def save_noise(self, iterate: Iterate) -> None:
        """Of an inversion, write the best z so far."""
        if self.config["command"] == "invert":
            self.write_noise(iterate.step.best_latents)

    def write_noise(self, noise: Latents) -> None:
        """Write noise, N x C x h x w, and what it is for."""
        about = header(self.config["noise"]) if "noise" in self.config else {}
        write_bytes(self.path / "noise.safetensors", safetensors_bytes({"noise": noise}, about))

    def suggestions(self) -> list[int] | None:
        """Which iterate of each picture to take (see ``suggestion.suggested``); ``None`` where
        agreement was not measured for every iterate.
        """
        records = self.records()
        if not records or not all(r["agreement"] for r in records):
            return None
        patience, pictures = self.settings.patience, len(self.config["pictures"])
        return [suggestion_of(records, i, patience) for i in range(pictures)]

    def pick(self, number: int | None = None) -> list[Path]:
        """Copy one iterate of every picture to ``picked/``; returns the files.

        Args:
            number: of the iterate; by default the suggested one of each picture.

        Raises:
            SettingError: there is no such iterate, or none can be suggested.
            RunError: nothing has been drawn yet.
        """
        records = self.records()
        if not records:
            raise RunError(
                f"{shown(self.path)} has no pictures yet: its first iterate is not done.",
                f"Type: evoken {self.config['command']} --resume {quote(str(self.path))}",
            )
        last = len(records) - 1
        pictures = len(self.config["pictures"])
        numbers = self.suggestions() if number is None else [number] * pictures
        if numbers is None:
            raise SettingError(
                "no iterate can be suggested, since agreement with a target was not measured.",
                f"Give an iterate from 0 to {last}.",
            )
        if not all(0 <= n <= last for n in numbers):
            raise SettingError(
                f"`number` must be from 0 to {last} (got {number}).",
                "Choose one in report.html.",
            )
        for chosen in set(numbers):
            self._check_pictures(records[chosen])
        return [self._pick(i, n) for i, n in enumerate(numbers)]

    def _pick(self, picture: int, iteration: int) -> Path:
        name = shortened(Path(self.config["pictures"][picture]["name"]).stem)
        source = self.picture(picture, iteration)
        target = self.path / "picked" / f"{picture:02}-{name}-{iteration}.png"
        try:
            content = source.read_bytes()
        except OSError as error:
            raise damaged(source, reason_of(error)) from error
        write_bytes(target, content)
        return target


def contents(tensors: dict[str, Tensor]) -> bytes:
    """A safetensors file's content."""
    return save({name: value.contiguous() for name, value in tensors.items()})
