"""Many pictures at once: a YAML of prompts, as the official script has it, or as short as possible.

    - init_img: dataset/bear.png
      source_prompt: a brown bear
      target_prompts: [a black bear, a brown bear made of lego]
      mask: dataset/bear-mask.png    (if wanted; white where the picture may change)

and, around it, a YAML of settings that names the first:

    - dataset_yaml: edits.yaml
      T_steps: 15
      n_max: 12
      ...
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evoken.documents import read_yaml
from evoken.errors import SettingError, reason_of, shown
from evoken.flowopt.given import Given, load_framed, together
from evoken.flowopt.settings import OFFICIAL_METHOD

# Names in the official script's YAML of settings, and ours.
SETTINGS = {
    "T_steps": "steps",
    "n_max": "last",
    "max_iterations": "iterations",
    "eta": "eta",
    "src_guidance_scale": "source_guidance",
    "tar_guidance_scale": "guidance",
    "seed": "seed",
}
MODELS = {
    "SD3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "FLUX": "black-forest-labs/FLUX.1-dev",
}


@dataclass(frozen=True)
class Edits:
    """What a YAML asks for: one entry per picture and target (per picture, for an inversion).

    Attributes:
        images: files.
        sources, targets: prompts; no targets for an inversion.
        settings: changes of the preset.
        model: the model's name, or "" if the YAML does not say.
    """

    images: tuple[Path, ...]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    masks: tuple[Path | None, ...] = ()

    def load(self, size: int, frame: str) -> Given:
        """Read the pictures."""
        masks = self.masks or (None,) * len(self.images)
        wanted = list(zip(self.images, masks, strict=True))
        read = {key: load_framed(*key, size, frame) for key in dict.fromkeys(wanted)}
        found = together([read[key] for key in wanted])
        return found.asked(self.sources, self.targets)


def read_edits(path: Path, invert: bool) -> Edits:
    """Read either YAML; paths in them are taken from the YAML's folder, or from where we are.

    Raises:
        SettingError: not readable, or something is missing in it.
    """
    entries = _entries(path)
    settings: dict[str, Any] = {}
    model = ""
    if "dataset_yaml" in entries[0]:
        if len(entries) > 1:
            raise SettingError(
                f"{shown(path)} may describe only one experiment (got {len(entries)}).",
                "Write each into a file of its own.",
            )
        experiment = entries[0]
        if (kind := str(experiment.get("sampler_type", "FlowOpt"))).startswith("FlowEdit"):
            raise SettingError(
                f"{shown(path)} is an experiment of FlowEdit (its sampler_type is {shown(kind)}), "
                "which is another method.",
                "Take sampler_type out to run its pictures and prompts by FlowOpt.",
            )
        settings = {ours: experiment[o] for o, ours in SETTINGS.items() if o in experiment}
        settings |= OFFICIAL_METHOD
        model = MODELS.get(str(experiment.get("model_type")), "")
        path = _find(path, str(experiment["dataset_yaml"]))
        entries = _entries(path)
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
    return Edits(tuple(images), tuple(sources), tuple(targets), settings, model, tuple(masks))


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
    places = (yaml_file.parent / name, yaml_file.parent.parent / name, Path(name))
    return next((p for p in places if p.exists()), places[0])
