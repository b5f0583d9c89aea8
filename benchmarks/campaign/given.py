"""What every case starts from, made once: small models, pictures, words, and finished runs."""

import base64
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.campaign.process import Command, call, left_over

SMALL = ("--popsize", "5", "--draws", "4", "--validation-draws", "8")
LEARN = (*SMALL, "--calls", "128", "--preview-every", "3", "--samples", "1")
SHORT = (*SMALL, "--calls", "64", "--preview-every", "0", "--samples", "0")
FEW = ("--steps", "2", "--last", "2", "--iterations", "1")
FLOW = ("--steps", "4", "--last", "3", "--iterations", "4")
DRAW = ("--count", "1", "--steps", "2", "--seed", "3")
PROMPT = "a photo of a cat"
TURN = ("--from", "a photo of a cat", "--to", "a photo of a dog")
# How the commands that write a run folder are run: what is killed.
MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    "learn": ("learn", ()),
    "learn-workers": ("learn", ("--workers", "2")),
    "learn-ray": ("learn", ("--ray", "local", "--workers", "2")),
    "edit": ("edit", ()),
    "invert": ("invert", ()),
}
WORKERS = {"learn-workers": 6.0, "learn-ray": 10.0}  # seconds until they are there, about
EDITS = [
    {"init_img": "0.png", "source_prompt": "a cat", "target_prompts": ["a dog", "a bird"]},
    {"init_img": "1.png", "source_prompt": "a house", "target_prompts": ["a red house"]},
]


@dataclass(frozen=True)
class Given:
    """The folder of all that.

    Attributes:
        seconds: what each of MODES takes; "new" what a new process takes to begin.
    """

    folder: Path
    seconds: dict[str, float]

    @property
    def model(self) -> list[str]:
        """The options that name the small models."""
        return ["--model", str(self.folder / "model"), "--clip", str(self.folder / "clip")]

    def whole(self, command: str) -> Path:
        """The run folder of an uninterrupted run of learn, edit or invert."""
        return self.folder / "runs" / command

    def arguments(self, command: str, output: str) -> list[str]:
        """Of learn, edit or invert into a new run folder."""
        photos, flow = self.folder / "photos", ["--model", str(self.folder / "flow")]
        clip = ["--clip", str(self.folder / "clip")]
        if command == "learn":
            what = [str(photos), *self.model, *LEARN]
        elif command == "edit":
            what = [str(photos / "0.png"), *TURN, *flow, *clip, *FLOW]
        else:
            what = [str(photos / "0.png"), "--prompt", PROMPT, *flow, *FLOW]
        return [command, *what, "--output", output]


def make(folder: Path) -> Given:
    """Make everything in a new folder."""
    call(_write, str(folder))
    seconds: dict[str, float] = {}
    for command in ("learn", "edit", "invert"):
        case = folder / "making" / command
        ended = Command(given_of(folder).arguments(command, "run"), case).end(300)
        if ended.code:
            raise RuntimeError(f"{command}: {ended.said}")
        seconds[command] = ended.seconds
        shutil.copytree(case / "here" / "run", folder / "runs" / command)
    seconds |= {mode: seconds["learn"] + extra for mode, extra in WORKERS.items()}
    photos, model = str(folder / "photos"), given_of(folder).model
    for name, arguments in {
        "drawn": ["generate", PROMPT, *model[:2], *DRAW],
        "started": ["learn", photos, *model, *SHORT, "--output", "run"],
    }.items():
        if Command(arguments, folder / name).end(60).code:
            raise RuntimeError(f"{name} failed")
    started = time.monotonic()
    Command(["--version"], folder / "making" / "new", new=True).end(60)
    seconds["new"] = time.monotonic() - started + 4.0  # and the imports that follow
    left_over()
    return Given(folder, seconds)


def given_of(folder: Path) -> Given:
    """The same of what is there already, without times."""
    return Given(folder, {})


def _write(place: str) -> None:
    """Models, pictures and files of words."""
    import torch
    import yaml
    from PIL import Image, PngImagePlugin

    from evoken.quiet import quiet_loading
    from evoken.words.files import pt_bytes, safetensors_bytes
    from tests import tiny

    folder = Path(place)
    with quiet_loading():
        tiny.save(folder)
    (folder / "photos").mkdir()
    for i, colour in enumerate(("red", "green", "blue", "white")):
        picture = Image.new("RGB", (40, 30), colour)
        picture.paste("magenta", (14, 8, 24, 18))
        picture.save(folder / "photos" / f"{i}.png")
    words = folder / "words"
    words.mkdir()
    first, second = (
        torch.randn(2, n, generator=torch.Generator().manual_seed(n)) for n in (768, 1280)
    )
    (words / "one.safetensors").write_bytes(safetensors_bytes({"<cat>": first}, {"note": "a cat"}))
    (words / "two.safetensors").write_bytes(
        safetensors_bytes({"clip_l": first, "clip_g": second}, {})
    )
    a1111: dict[str, Any] = {"string_to_token": {"*": 265}, "name": "cat", "step": 5}
    (words / "a1111.pt").write_bytes(pt_bytes(a1111 | {"string_to_param": {"*": first}}))
    torch.save({"<cat>": first}, words / "diffusers.bin")
    torch.save({"<cat>": first}, words / "old.pt", _use_new_zipfile_serialization=False)
    entries = a1111 | {"string_to_param": {"*": {"TORCHTENSOR": first.tolist()}}}
    text = PngImagePlugin.PngInfo()
    text.add_text("sd-ti-embedding", base64.b64encode(json.dumps(entries).encode()).decode())
    Image.effect_noise((64, 64), 60).convert("RGB").save(words / "card.png", pnginfo=text)
    options: dict[str, Any] = {"popsize": 5, "draws": 4, "validation_draws": 8, "calls": 64}
    options |= {"preview_every": 0, "samples": 0, "seed": 3, "kind": "object", "sigma": 0.1}
    edits = folder / "edits"
    shutil.copytree(folder / "photos", edits)
    (edits / "edits.yaml").write_text(yaml.safe_dump(EDITS))
    (edits / "edits.json").write_text(json.dumps(EDITS))
    (edits / "options.yaml").write_text(yaml.safe_dump(options))
    (edits / "options.json").write_text(json.dumps(options))
