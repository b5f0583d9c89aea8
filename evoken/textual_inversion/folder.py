"""The run folder: everything a run did and made. It is append-only and its own checkpoint.

    config.json             settings, model, hash of its weights, versions
    inputs.json, inputs/    names, hashes and captions of the images, and the images and their masks
                            as the model saw them
    start.safetensors       the learned word that the search started from, if it did from one
    no_word.json            the loss that a word has to be better than
    records.jsonl           one line per generation
    previews/               pictures at fixed seeds, and their scores, by generation
    picked/                 words of other generations that a user took
    result.json             once the run has ended: which generation gave the word, and the last one
    learned_embeds.safetensors, README.md, report.html, curves.csv, samples/

Reports, drawing and evaluation read only this folder.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from evoken.annotations import Annotations
from evoken.arrays import Images, PathLike
from evoken.decoding import decode, read
from evoken.documents import read_json
from evoken.errors import RunError, one_line, shown
from evoken.files import above, new_folder, write_json
from evoken.images import ImageSet
from evoken.models.base import Model
from evoken.models.provenance import part_hashes, versions, weights_hash
from evoken.pictures.metrics import Score
from evoken.pictures.shown import BEFORE, NAME
from evoken.records import append_record, damaged, read_records
from evoken.run_folder import (
    FORMAT,
    as_written,
    check_new,
    check_unchanged,
    command_of,
    input_path,
    is_run_folder,
    is_sealed,
    now,
    read_config,
    read_inputs,
    read_masks,
    read_spec,
    seal,
    write_config,
    write_inputs,
    write_masks,
)
from evoken.search.table import search_of
from evoken.spec import ModelSpec
from evoken.textual_inversion.learn import Learner, Record
from evoken.textual_inversion.settings import LearnSettings
from evoken.textual_inversion.start_file import keep_start, kept_start
from evoken.textual_inversion.starts import loss_of_nothing
from evoken.version import __version__
from evoken.words.files import WORD_FILE
from evoken.words.word import Word, load_word, save_word

PREVIEWS = 4  # pictures per preview, and per row of a sample sheet


class LearnRun:
    """The run folder of a learned word.

    ``word()`` is the result, ``records()`` what each generation did, ``settings`` and ``spec`` how
    it was learned.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config

    def __repr__(self) -> str:
        return f"<LearnRun {self.path}: {self.settings.placeholder} on {self.spec.name}>"

    @classmethod
    def create(
        cls,
        path: Path,
        settings: LearnSettings,
        model: Model,
        clip: str,
        images: ImageSet,
        note: str = "",
        start: Word | None = None,
    ) -> "LearnRun":
        """Start a folder.

        Args:
            note: what the report is to say of the pictures; "" for nothing.
            start: the learned word that the search starts from, if it does from one.

        Raises:
            RunError: ``path`` exists already, or cannot be written.
        """
        check_new(path)
        spec = model.spec
        config = {
            "format": FORMAT,
            "command": "learn",
            "evoken": __version__,
            "began": now(),
            "versions": versions(),
            "weights": weights_hash(spec.name),
            "parts": part_hashes(spec.name, clip, settings.also),
            "settings": settings.to_dict(),
            "search_revision": search_of(settings.search).load().revision,
            "model": asdict(spec),
            "precision": model.precision,
            "clip": clip,
        }
        if note:
            config["note"] = note
        with new_folder(path) as folder:
            if start:
                config["start"] = keep_start(folder, start, settings)
            write_inputs(folder, images.images)
            write_masks(folder, images.annotations)
            write_json(folder / "inputs.json", _described(images))
            sealed = seal(folder, config)
        return cls(path, sealed)

    @classmethod
    def open(cls, path: PathLike) -> "LearnRun":
        """Open a folder.

        Raises:
            RunError: it is not a run folder, or one of another format.
        """
        return cls(Path(path), read_config(Path(path), "learn"))

    @classmethod
    def of_word(cls, path: PathLike) -> "LearnRun | None":
        """The run that a word is from: ``path`` is its folder, the word's file in it, or one that
        was picked; None for a word of no run.

        Raises:
            RunError: the run's folder is damaged.
        """
        given = Path(path)
        for folder in (given, given.parent, above(given.parent)):
            if is_run_folder(folder) and command_of(folder) == "learn":
                return cls.open(folder)
        return None

    @property
    def settings(self) -> LearnSettings:
        """The settings that the run was started with."""
        with as_written(self.path / "config.json"):
            return LearnSettings.from_dict(self.config["settings"])

    @property
    def spec(self) -> ModelSpec:
        """The model that the run learns on."""
        return read_spec(self.path, self.config)

    @property
    def public_settings(self) -> dict[str, Any]:
        """The settings as they may be published: of a file to start from the name alone."""
        values = self.settings.to_dict()
        with as_written(self.path / "config.json"):
            return values | ({"start": self.config["start"]["name"]} if self._has_start else {})

    @property
    def _has_start(self) -> bool:
        return self.settings.initialization == "file"

    def start(self) -> Word | None:
        """The learned word that the search started from; None if it did from none.

        Raises:
            RunError: it is not in the folder as it was written.
        """
        return kept_start(self.path, self.config) if self._has_start else None

    @property
    def start_name(self) -> str:
        """The placeholder of the learned word that the search started from; "" if from none."""
        with as_written(self.path / "config.json"):
            return str(self.config["start"]["placeholder"]) if self._has_start else ""

    @property
    def planned_calls(self) -> int:
        """The budget that the run was begun with, which its search is planned for."""
        with as_written(self.path / "config.json"):
            return int(self.config.get("planned_calls", self.config["settings"]["calls"]))

    @property
    def extended(self) -> bool:
        """Whether the run went on with another budget than the one it began with."""
        return "planned_calls" in self.config

    def extend(self, settings: LearnSettings) -> None:
        """Go on with another budget from now on; the search stays planned for the first one."""
        changed = {"planned_calls": self.planned_calls, "settings": settings.to_dict()}
        self.config = write_config(self.path, self.config | changed)

    def check_search(self) -> None:
        """Raise ``RunError`` if the run's records are of an earlier revision of its search, to
        which they meant other candidates.
        """
        name = self.settings.search
        if self.config.get("search_revision", 1) != search_of(name).load().revision:
            raise RunError(
                f"{shown(self.path)} began with another version of the search {name}, and would go "
                "on with other candidates than it recorded.",
                "Learn the word again, or go on from it with: evoken learn FOLDER --start "
                f"{quote(str(self.path))}",
            )

    def check_unchanged(self) -> None:
        """Raise ``RunError`` unless settings, pictures and models are those that it began with,
        ``ImageError`` for a drawn picture that cannot be shown in the report that comes last.
        """
        check_unchanged(self.path, self.config, self.spec)
        previews = [file for _, file in self.previews()]
        for file in (*previews, *sorted(self.path.glob("samples/*.png"))):
            decode(read(file), file)

    @property
    def clip(self) -> str:
        """Name of the CLIP model."""
        with as_written(self.path / "config.json"):
            return str(self.config["clip"])

    def images(self, size: int) -> Images:
        """The images as the model saw them."""
        return read_inputs(self.path, len(self.inputs), size)

    def annotations(self) -> Annotations:
        """The masks and captions of the images."""
        inputs = self._inputs()
        with as_written(self.path / "inputs.json"):
            captions = tuple(str(file.get("caption", "")) for file in inputs)
            masked = [bool(file.get("mask", False)) for file in inputs]
        return Annotations(read_masks(self.path, masked), captions if any(captions) else ())

    def _inputs(self) -> list[dict[str, Any]]:
        file = self.path / "inputs.json"
        with as_written(file):
            return list(read_json(file))

    def began_with(self, images: ImageSet) -> bool:
        """Whether the run began with these images, masks and captions, at the same size."""
        described = (self._inputs(), _described(images))
        kept, given = ([f | {"name": ""} for f in files] for files in described)
        masks, others = self.annotations().masks, images.annotations.masks
        if kept != given or (masks is None) != (others is None):
            return False
        # Masks are kept in 255 levels.
        return masks is None or others is None or torch.allclose(masks, others, atol=1 / 254)

    @property
    def inputs(self) -> list[Path]:
        """The files of the images."""
        return [input_path(self.path, i) for i in range(len(self._inputs()))]

    def records(self) -> list[Record]:
        """All whole records; raises ``RunError`` if they are not those of one run in order."""
        file = self.path / "records.jsonl"
        with as_written(file):
            records = read_records(file, is_sealed(self.config))
            found = [Record.from_dict(record) for record in records]
        if (numbers := [r.generation for r in found]) != list(range(len(found))):
            raise damaged(file, f"generations {numbers}")
        return found

    def append(self, record: Record) -> None:
        """Write one generation's record to the end."""
        append_record(self.path / "records.jsonl", record.to_dict(), is_sealed(self.config))

    def score_path(self, generation: int) -> Path:
        """Where the score of a preview is, if there is one."""
        return self.preview_path(generation).with_suffix(".json")

    def preview_path(self, generation: int) -> Path:
        """Where the preview of a generation is or will be."""
        return self.path / "previews" / f"{generation:04}.png"

    def previews(self) -> Iterator[tuple[int, Path]]:
        """Generation and file of each preview, in order."""
        found = (self.path / "previews").glob("*.png")
        numbered = {int(p.stem): p for p in found if re.fullmatch(r"[0-9]{4,8}", p.stem)}
        yield from sorted(numbered.items())

    def sample_path(self, number: int, which: str) -> Path:
        """Where the report's sheet of a sentence is or will be, "before" or "after" learning."""
        return self.path / "samples" / f"{number:02}-{which}.png"

    @property
    def scores_path(self) -> Path:
        """Where the scores that ``evoken evaluate`` found are or will be."""
        return self.path / "scores.json"

    @property
    def report_path(self) -> Path:
        """Where the report is or will be."""
        return self.path / "report.html"

    def evaluation(self) -> dict[str, Any]:
        """What ``evoken evaluate`` found of the run's word; empty where it was not asked, or was of
        a word that the run had before.
        """
        if not self.scores_path.exists():
            return {}
        with as_written(self.scores_path):
            found = dict(read_json(self.scores_path))
        return found if found.get("word") in (None, self.word_hash()) else {}

    @property
    def score_name(self) -> str:
        """What ``scores`` are called: as that of the last preview is."""
        names = [name for name, _ in self._kept_scores().values()]
        return names[-1] if names else NAME

    def scores(self) -> dict[int, Score]:
        """The scores of previews by generation. A run that went on with a newer version may have
        some of an earlier kind, which cannot be compared and are left out.
        """
        name = self.score_name
        return {g: score for g, (its, score) in self._kept_scores().items() if its == name}

    def _kept_scores(self) -> dict[int, tuple[str, Score]]:
        """Name and score, of the previews that have one that can be read: a report can do
        without.
        """
        found = {}
        for generation, _ in self.previews():
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                kept = read_json(self.score_path(generation))
                found[generation] = one_line(str(kept.get("score", BEFORE))), Score.from_dict(kept)
        return found

    def picked_path(self, generation: int) -> Path:
        """Where the word of a generation is or will be, if somebody takes it."""
        return self.path / "picked" / f"{generation:04}.safetensors"

    def save_word(self, learner: Learner, path: Path | None = None) -> None:
        """Write the learner's word, with how it was learned in its header; by default as the run's
        own.
        """
        settings, model = self.settings, learner.model
        about = {
            "evoken": __version__,
            "model": self.spec.name,
            "also": settings.also,
            "weights": self.config.get("weights", ""),
            "architecture": model.architecture,
            "precision": model.precision,
            "kind": settings.kind,
            "preset": settings.preset,
            "start": self.start_name,
            "seed": str(settings.seed),
            "generation": str(learner.best_generation),
            "calls": str(learner.calls),
            "validation_loss": f"{learner.best_validation:.6g}",
        }
        file = path or self.path / WORD_FILE
        save_word(file, learner.word, {k: v for k, v in about.items() if v})

    def end(self, learner: Learner) -> None:
        """Write the word that the run ends with, and which it is. A run that went on after an
        earlier end may have pictures and scores of another word: those go.
        """
        file = self.path / "result.json"
        result = {"word_of_generation": learner.best_generation, "ended": learner.generation}
        with as_written(file):
            before = read_json(file) if file.exists() else result
            changed = before["word_of_generation"] != learner.best_generation
        if changed:
            for stale in (*self.path.glob("samples/*-after.png"), self.scores_path):
                stale.unlink(missing_ok=True)
        self.save_word(learner)
        write_json(file, result)

    @property
    def finished(self) -> bool:
        """Whether the run has ended, with its report, and not gone on since."""
        file = self.path / "result.json"
        if not (file.exists() and self.report_path.exists()):
            return False
        with as_written(file):
            ended = int(read_json(file)["ended"])
        return ended == len(self.records()) - 1

    def loss_of_no_word(self) -> float | None:
        """The validation loss with no word at all; None where it has not been measured."""
        records, file = self.records(), self._no_word_path
        if records and (found := loss_of_nothing(records[0].losses)) is not None:
            return found
        if not file.exists():
            return None
        with as_written(file):
            return float(read_json(file)["loss"])

    def keep_loss_of_no_word(self, loss: float) -> None:
        """Write it, for ``loss_of_no_word``."""
        write_json(self._no_word_path, {"loss": loss})

    @property
    def _no_word_path(self) -> Path:
        return self.path / "no_word.json"

    def result(self) -> dict[str, Any]:
        """What has come out, in numbers: the generation whose word it is, all calls, the word's
        validation loss, and how far that is below the loss at the start and with no word at all,
        which is None in a folder of an older version.

        Raises:
            RunError: the run has not ended.
        """
        file, records = self.path / "result.json", self.records()
        with as_written(file):
            generation = int(read_json(file)["word_of_generation"])
            validation = records[generation].validation
        nothing = self.loss_of_no_word()
        return {
            "generation": generation,
            "calls": records[-1].calls,
            "validation_loss": validation,
            "gain_over_start": records[0].validation - validation,
            "gain_over_no_word": None if nothing is None else nothing - validation,
        }

    def word(self) -> Word:
        """The learned word; raises ``WordError`` if there is none yet."""
        return load_word(self.path)

    def ended_with(self, word: Word) -> bool:
        """Whether it is the learned word."""
        return torch.equal(self.word().vectors, word.vectors)

    def word_hash(self) -> str:
        """SHA-256 of its vectors: two words are the same where it is."""
        return hashlib.sha256(self.word().vectors.numpy().tobytes()).hexdigest()


def _described(images: ImageSet) -> list[dict[str, Any]]:
    """What ``inputs.json`` says of each image."""
    files: list[dict[str, Any]] = [
        {"name": name, "sha256": sha256}
        for name, sha256 in zip(images.names, images.hashes, strict=True)
    ]
    annotations = images.annotations
    for file, masked in zip(files, annotations.masked, strict=False):
        file |= {"mask": True} if masked else {}
    for file, caption in zip(files, annotations.captions, strict=False):
        file |= {"caption": caption} if caption else {}
    return files
