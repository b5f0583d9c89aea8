"""The folder of an inversion or an edit: append-only, its own checkpoint.

config.json         command, settings, model, prompts, names and hashes of the pictures
inputs/             the pictures as the model saw them; word.safetensors and word-1.safetensors
                    if words are used
records.jsonl       one line per iterate
states/             z and f(z) of every iterate: what a resumed run starts from
iterates/           NN-III.png, picture NN after III updates
noise.safetensors   the best z of every picture
picked/, report.html, curves.csv
saved_info/         if wanted, the pictures as the official script calls them
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from evoken.arrays import PathLike
from evoken.errors import SettingError, reason_of
from evoken.files import new_folder, write_bytes
from evoken.flowopt.compare import suggested
from evoken.flowopt.edit import Iterate, Task
from evoken.flowopt.optimize import Evaluated
from evoken.flowopt.settings import FlowOptSettings
from evoken.images import ImageSet, png, to_pictures
from evoken.models.provenance import file_hash, part_hashes, versions, weights_hash
from evoken.records import append_record, damaged, read_records
from evoken.run_folder import (
    FORMAT,
    as_written,
    check_new,
    check_unchanged,
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
from evoken.words.word import load_word, save_word

COMMANDS = ("invert", "edit")


def _word_file(folder: Path, i: int) -> Path:
    """Where the i-th word of an edit is or will be."""
    return folder / (f"word-{i}.safetensors" if i else "word.safetensors")


class FlowOptRun:
    """The run folder of an inversion or an edit; ``pick()`` copies finished pictures."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config

    def __repr__(self) -> str:
        return f"<FlowOptRun {self.path}: {self.config.get('command')} on {self.spec.name}>"

    @classmethod
    def create(
        cls,
        path: Path,
        task: Task,
        settings: FlowOptSettings,
        spec: ModelSpec,
        clip: str,
        images: ImageSet,
        note: str = "",
        saved_info: Mapping[str, str] | None = None,
    ) -> "FlowOptRun":
        """Start a folder.

        Args:
            note: what the report is to say of the pictures; "" for nothing.
            saved_info: the official script's exp_name and model_type, for its folders of pictures;
                None to leave them out.

        Raises:
            RunError: ``path`` exists already, or cannot be written.
        """
        check_new(path)
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
            "clip": clip,
            "pictures": [
                {"name": n, "sha256": h} for n, h in zip(images.names, images.hashes, strict=True)
            ],
            "sources": list(task.sources),
            "targets": list(task.targets),
        }
        if note:
            config["note"] = note
        if saved_info:
            config["saved_info"] = dict(saved_info)
        with new_folder(path) as folder:
            write_inputs(folder, task.images)
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
            return FlowOptSettings.from_dict(self.config["settings"])

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
        return Task(read_inputs(self.path, pictures, size), sources, targets, words)

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
        step = iterate.step
        pictures = [png(picture) for picture in to_pictures(iterate.images)]
        for i, picture in enumerate(pictures):
            write_bytes(self.picture(i, step.iteration), picture)
        state = {"latents": step.latents, "result": step.result}
        write_bytes(self._state(step.iteration), save(_whole(state)))
        self.save_noise(iterate)
        append_record(
            self.path / "records.jsonl",
            {
                "state": file_hash(self._state(step.iteration)),
                "pictures": [
                    file_hash(self.picture(i, step.iteration)) for i in range(len(pictures))
                ],
                "iteration": step.iteration,
                "calls": step.calls,
                "residual": _listed(step.residual),
                "diverged": step.diverged.tolist(),
                "rmse": _listed(iterate.rmse),
                "psnr": _listed(iterate.psnr),
                "ssim": _listed(iterate.ssim),
                "agreement": _listed(iterate.agreement),
                "source_agreement": _listed(iterate.source_agreement),
            },
            is_sealed(self.config),
        )

    def save_noise(self, iterate: Iterate) -> None:
        """Write the best z so far."""
        noise = save(_whole({"noise": iterate.step.best_latents}))
        write_bytes(self.path / "noise.safetensors", noise)

    def suggestions(self) -> list[int] | None:
        """Which iterate of each picture to take (see ``compare.suggested``); ``None`` where
        agreement was not measured for every iterate.
        """
        records = self.records()
        if not records or not all(r["agreement"] for r in records):
            return None
        sources = records[0]["source_agreement"]
        measured = [[-1.0 if a is None else a for a in r["agreement"]] for r in records]
        histories = zip(*measured, strict=True)
        patience = self.settings.patience
        return [suggested(h, s, patience) for h, s in zip(histories, sources, strict=True)]

    def pick(self, number: int | None = None) -> list[Path]:
        """Copy one iterate of every picture to ``picked/``; returns the files.

        Args:
            number: of the iterate; by default the suggested one of each picture.

        Raises:
            SettingError: there is no such iterate, or none can be suggested.
        """
        records = self.records()
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
        name = Path(self.config["pictures"][picture]["name"]).stem[:100]
        source = self.picture(picture, iteration)
        target = self.path / "picked" / f"{picture:02}-{name}-{iteration}.png"
        try:
            content = source.read_bytes()
        except OSError as error:
            raise damaged(source, reason_of(error)) from error
        write_bytes(target, content)
        return target


def _listed(values: Tensor | None) -> list[float | None] | None:
    """As JSON can hold them: what is not finite is null."""
    if values is None:
        return None
    return [x if math.isfinite(x) else None for x in values.tolist()]


def _whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in tensors.items()}
