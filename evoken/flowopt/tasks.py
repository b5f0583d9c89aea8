"""Many pictures at once: a YAML of prompts, as the official script has it, or as short as possible.

    - init_img: dataset/bear.png
      source_prompt: a brown bear
      target_prompts: [a black bear, a brown bear made of lego]
      mask: dataset/bear-mask.png    (if wanted; white where the picture may change)

and, around it, the script's YAML of experiments, each of which names the first
(``evoken.flowopt.official``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evoken.documents import read_yaml
from evoken.errors import SettingError, reason_of, shown
from evoken.files import above
from evoken.flowopt.given import Given, load_framed, together
from evoken.flowopt.official import MODELS, Experiment, read_experiments


@dataclass(frozen=True)
class Edits:
    """What a YAML asks for: one entry per picture and target (per picture, for an inversion).

    Attributes:
        images: files.
        sources, targets: prompts; no targets for an inversion.
        settings: changes of the preset.
        model: the model's name, or "" if the YAML does not say.
        experiment: that of the official script that this is; None if it is none.
        others: how many experiments of the YAML ask for the other: to edit, or to invert.
    """

    images: tuple[Path, ...]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    experiment: Experiment | None = None
    others: int = 0
    masks: tuple[Path | None, ...] = ()

    def load(self, size: int, frame: str, beside: bool = False) -> Given:
        """Read the pictures; see ``load_framed``."""
        masks = self.masks or (None,) * len(self.images)
        wanted = list(zip(self.images, masks, strict=True))
        read = {key: load_framed(*key, size, frame, beside) for key in dict.fromkeys(wanted)}
        found = together([read[key] for key in wanted])
        return found.asked(self.sources, self.targets)


def read_edits(path: Path, invert: bool) -> list[Edits]:
    """Read either YAML: what it asks to be inverted, or to be edited, experiment by experiment.
    Paths in it are taken from the YAML's folder, or from where we are.

    Raises:
        SettingError: not readable, or something is missing in it, or it asks only for the other.
    """
    entries = _entries(path)
    if "dataset_yaml" not in entries[0]:
        return [_listed(path, entries, invert)]
    command = "invert" if invert else "edit"
    experiments = read_experiments(entries, path)
    chosen = [e for e in experiments if e.command in ("", command)]
    if not chosen:
        other = "edit" if invert else "invert"
        asked = "no inversion" if invert else "an inversion"
        raise SettingError(
            f"{shown(path)} asks for {asked}: its inversion is {str(not invert).lower()}.",
            f"Type: evoken {other} {shown(path)}",
        )
    others = len(experiments) - len(chosen)
    return [replace(_of(path, each, command), others=others) for each in chosen]


def _of(path: Path, experiment: Experiment, command: str) -> Edits:
    dataset = _find(path, experiment.dataset)
    listed = _listed(dataset, _entries(dataset), command == "invert")
    return replace(
        listed,
        settings=experiment.settings(command),
        model=MODELS.get(experiment.family, ""),
        experiment=experiment,
    )


def _listed(path: Path, entries: Sequence[dict[str, Any]], invert: bool) -> Edits:
    """What a YAML of pictures and prompts asks for."""
    images, sources, targets, masks = [], [], [], list[Path | None]()
    for i, entry in enumerate(entries):
        missing = {"init_img", "source_prompt"} - set(entry)
        if not invert and not entry.get("target_prompts"):
            missing.add("target_prompts")
        if missing:
            raise SettingError(
                f"entry {i + 1} of {shown(path)} lacks {' and '.join(sorted(missing))}.",
                "Add what is missing: init_img, source_prompt and, to edit, target_prompts.",
            )
        asked = [] if invert else entry["target_prompts"]
        wanted = [asked] if isinstance(asked, str) else asked
        listed = isinstance(wanted, list)
        mask = entry.get("mask", "")
        texts = [entry["init_img"], entry["source_prompt"], mask, *(wanted if listed else [])]
        if not listed or not all(isinstance(t, str) for t in texts):
            raise SettingError(
                f"entry {i + 1} of {shown(path)} must hold text, and target_prompts as a list "
                f"(got {shown(entry)}).",
                "Put texts in quotes.",
            )
        for target in wanted or [""]:
            images.append(_find(path, entry["init_img"]))
            masks.append(_find(path, mask) if mask else None)
            sources.append(entry["source_prompt"])
            targets += [] if invert else [target]
    return Edits(tuple(images), tuple(sources), tuple(targets), masks=tuple(masks))


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        found = read_yaml(path)
    except (OSError, ValueError) as error:
        raise SettingError(
            f"could not read {shown(path)} as YAML: {reason_of(error)}.", "Check the file."
        ) from error
    entries = found if isinstance(found, list) else [found]
    if not entries or not all(isinstance(e, dict) for e in entries):
        raise SettingError(
            f"{shown(path)} must be a list of pictures and prompts (got {shown(found)}).",
            "See docs/flowopt.md.",
        )
    return entries


def _find(yaml_file: Path, name: str) -> Path:
    """A path in a YAML: beside it, one folder up (the official layout), or from where we are."""
    here = yaml_file.parent
    places = (here / name, above(here) / name, Path(name))
    return next((p for p in places if p.exists()), places[0])
