"""What the official script calls an experiment (orronai/FlowOpt at ee3577b0, ``FlowOpt.py``).

Its YAML is a list of them; each names a YAML of pictures and prompts:

    - exp_name: FlowOpt_SD3
      dataset_yaml: yaml_files/edits.yaml
      model_type: SD3
      T_steps: 15
      n_max: 12
      max_iterations: 8
      eta: 0.01
      src_guidance_scale: 1.0
      tar_guidance_scale: 3.5
      seed: 1024
      inversion: false
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoken.errors import SettingError, shown

# The script's names of settings, and ours; those of guidance depend on what is done.
SETTINGS = {
    "T_steps": "steps",
    "n_max": "last",
    "max_iterations": "iterations",
    "eta": "eta",
    "seed": "seed",
}
GUIDANCE = {
    "edit": {"src_guidance_scale": "source_guidance", "tar_guidance_scale": "guidance"},
    "invert": {"src_guidance_scale": "guidance"},  # there and back
}
MODELS = {
    "SD3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "FLUX": "black-forest-labs/FLUX.1-dev",
}
UNNAMED = "SD3"  # whose files hold where no model is named
LONGEST = 200  # bytes of a name of a folder, whose end a number may still be put to


@dataclass(frozen=True)
class Experiment:
    """One of the script's experiments.

    Attributes:
        name: its exp_name, fit to be a folder's; "" if it has none.
        family: its model_type, one of ``MODELS``; "" if it has none.
        command: "invert" or "edit"; "" if it does not say.
        dataset: its dataset_yaml.
    """

    name: str
    family: str
    command: str
    dataset: str
    written: Mapping[str, Any]

    def settings(self, command: str) -> dict[str, Any]:
        """What is written for an "invert" or an "edit"."""
        names = SETTINGS | GUIDANCE[command]
        return {ours: self.written[name] for name, ours in names.items() if name in self.written}

    def preset(self, command: str) -> str:
        """Where what is not written comes from: the script's own YAML files of the model."""
        return f"official-{(self.family or UNNAMED).lower()}-{command}"


def read_experiments(entries: Sequence[Mapping[str, Any]], path: Path) -> list[Experiment]:
    """Check the experiments of a YAML.

    Raises:
        SettingError: one of them is not possible; the message says which, and of what file.
    """
    found = [
        _read(entry, f"experiment {i + 1} of {shown(path)}") for i, entry in enumerate(entries)
    ]
    families = dict.fromkeys(experiment.family for experiment in found)
    if len(families) > 1:
        raise SettingError(
            f"all experiments of {shown(path)} must have the same model_type (got "
            f"{' and '.join(family or 'none' for family in families)}).",
            "Write those of each model into a file of their own.",
        )
    return found


def _read(entry: Mapping[str, Any], which: str) -> Experiment:
    kind = str(entry.get("sampler_type", "FlowOpt"))
    if kind.startswith("FlowEdit"):
        raise SettingError(
            f"{which} is one of FlowEdit (its sampler_type is {shown(kind)}), which is another "
            "method.",
            "Take sampler_type out to run its pictures and prompts by FlowOpt.",
        )
    dataset, name = entry.get("dataset_yaml"), entry.get("exp_name", "")
    if not isinstance(dataset, str):
        raise SettingError(
            f"the dataset_yaml of {which} must be the name of a file (got {shown(dataset)}).",
            "Name a YAML of pictures and prompts.",
        )
    if name != "" and not is_folder_name(name):
        raise SettingError(
            f"the exp_name of {which} must be the name of a folder, without slashes (got "
            f"{shown(name)}).",
            "Use letters, digits and underscores.",
        )
    family = entry.get("model_type", "")
    if family not in ("", *MODELS):
        raise SettingError(
            f"the model_type of {which} must be {' or '.join(MODELS)} (got {shown(family)}).",
            "Leave it out, and name another model with `model`.",
        )
    inverts = entry.get("inversion")
    if not isinstance(inverts, bool | None):
        raise SettingError(
            f"the inversion of {which} must be true or false (got {shown(inverts)}).",
            "Write one of them, without quotes.",
        )
    command = {None: "", True: "invert", False: "edit"}[inverts]
    return Experiment(name, family, command, dataset, entry)


def is_folder_name(name: object) -> bool:
    """Whether it is text that names one folder, here and on other systems, and leads nowhere."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and name.strip(". ") == name != ""
        and not set(name) & set('/\\:*?"<>|')
        and len(name.encode()) <= LONGEST
    )
