"""The official script's experiments: several in a file, inversions, and its folders of pictures."""

import os
import re
import signal
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import Result

from evoken.errors import RunError, SettingError
from evoken.flowopt import job
from evoken.flowopt.edit import invert
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.job import Request, begun, edit_into
from evoken.flowopt.saved_info import write_saved_info
from evoken.flowopt.settings import FlowOptSettings, flowopt_preset
from evoken.models.families.stable_diffusion_3 import StableDiffusion3
from evoken.models.load import load_model
from evoken.progress import Display
from evoken.spec import ModelSpec
from tests import commands
from tests.commands import files, refused

pytestmark = pytest.mark.usefixtures("own_folder")

# As in the script's repository: pictures in one folder, YAML files in another.
EDITS = """
-
    init_img:  dataset/bear.png

    source_prompt: A brown bear in a stream.
        It is a photo.

    target_prompts:
    - a black bear
    - a bear in pixar style

    target_codes:
    - 1_black_bear
    - 2_pixar_bear

-
    init_img:  dataset/cake.png
    source_prompt: a cake
    target_prompts:
    - a wedding cake
    target_codes:
    - 1_wedding
"""
EDITING = {
    "exp_name": "FlowOpt_SD3",
    "dataset_yaml": "yaml_files/edits.yaml",
    "model_type": "SD3",
    "T_steps": 4,
    "n_max": 3,
    "max_iterations": 2,
    "eta": 0.01,
    "src_guidance_scale": 1.0,
    "tar_guidance_scale": 2.5,
    "seed": 1024,
    "inversion": False,
}
INVERSION = {
    "exp_name": "FlowOpt_inversion_SD3",
    "dataset_yaml": "yaml_files/edits.yaml",
    "model_type": "SD3",
    "T_steps": 3,
    "n_max": 3,
    "max_iterations": 1,
    "eta": 0.01,
    "src_guidance_scale": 2.0,
    "seed": 1024,
    "inversion": True,
}


@pytest.fixture
def folder(own_folder: None) -> Path:
    """With the pictures and the YAML of prompts."""
    for name in ("dataset", "yaml_files"):
        Path(name).mkdir()
    noise = torch.Generator().manual_seed(1)
    for name in ("bear", "cake"):
        pixels = torch.randint(0, 256, (20, 20, 3), generator=noise, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(Path("dataset", f"{name}.png"))
    Path("yaml_files/edits.yaml").write_text(EDITS)
    return Path("yaml_files")


@pytest.fixture
def evoken(tiny_folder: Path) -> Any:
    def run(command: str, *arguments: object) -> Result:
        clip = ("--clip", tiny_folder / "clip") if command == "edit" else ()
        model = ("--model", tiny_folder / "flow", *clip)
        return commands.evoken(command, *arguments, *(() if "--resume" in arguments else model))

    return run


def written(folder: Path, *experiments: dict[str, Any]) -> Path:
    """A YAML of experiments."""
    file = folder / "exp.yaml"
    file.write_text(yaml.safe_dump(list(experiments)))
    return file


def test_each_experiment_has_a_folder_of_its_name(evoken: Any, folder: Path) -> None:
    again = EDITING | {"eta": 0.02}
    file = written(folder, EDITING, INVERSION, again)
    result = evoken("edit", file, "--output", "out")
    assert result.exit_code == 0, result.output
    assert f"1 experiment is left out here, for: evoken invert {file}" in (
        " ".join(result.stdout.split())
    )
    assert sorted(p.name for p in Path("out").iterdir()) == ["FlowOpt_SD3", "FlowOpt_SD3-2"]
    for name, eta in (("FlowOpt_SD3", 0.01), ("FlowOpt_SD3-2", 0.02)):
        run = FlowOptRun.open(Path("out", name))
        expected = {"steps": 4, "last": 3, "iterations": 2, "eta": eta, "seed": 1024}
        assert run.settings == flowopt_preset("official-sd3-edit", guidance=2.5, **expected)
        assert len(run.records()) == 3 and len(run.config["targets"]) == 3
        assert run.config["sources"][0].endswith("a stream. It is a photo.")
    result = evoken("invert", file, "--output", "inverted", "--json")
    assert result.exit_code == 0, result.output
    run = FlowOptRun.open(Path("inverted"))  # there is but one
    expected = {"steps": 3, "last": 3, "iterations": 1, "seed": 1024}
    assert run.settings == flowopt_preset("official-sd3-invert", guidance=2.0, **expected)
    assert run.config["sources"][1:] == ["a cake"]


def test_what_is_not_written_is_as_in_the_scripts_own_files(folder: Path) -> None:
    def settings(
        command: str, experiment: dict[str, Any], preset: str = "", **changes: Any
    ) -> FlowOptSettings:
        targets = ("",) if command == "edit" else None
        [asked] = Request(written(folder, experiment), "", targets).experiments()
        return asked.settings(preset or command, changes)

    few = {name: EDITING[name] for name in ("dataset_yaml", "model_type")}
    assert settings("edit", few) == flowopt_preset("official-sd3-edit")
    assert settings("invert", few | {"model_type": "FLUX"}) == flowopt_preset(
        "official-flux-invert"
    )
    found = settings("edit", {k: v for k, v in EDITING.items() if k != "tar_guidance_scale"})
    assert (found.guidance, found.source_guidance) == (3.5, 1.0)
    found = settings("edit", EDITING | {"src_guidance_scale": 1.5})
    assert (found.guidance, found.source_guidance) == (2.5, 1.5)
    assert settings("edit", few | {"T_steps": 30}).last == 24
    assert settings("edit", few | {"model_type": "FLUX", "T_steps": 30}).last == 26
    assert settings("edit", few, steps=10).last == 8  # from the command line
    unnamed = {"dataset_yaml": EDITING["dataset_yaml"]}
    assert settings("edit", unnamed) == flowopt_preset("official-sd3-edit")
    flux = flowopt_preset("official-flux-edit")
    assert settings("edit", unnamed, preset="official-flux-edit") == flux
    with pytest.raises(SettingError, match="of the preset official-sd3-edit"):
        settings("edit", few, preset="official-flux-edit")
    assert settings("edit", {"dataset_yaml": EDITING["dataset_yaml"]}).rule == "fixed"


def test_an_inversion_is_found_with_the_guidance_that_it_iterates_with(
    tiny_folder: Path, images: torch.Tensor
) -> None:
    model = load_model(ModelSpec(str(tiny_folder / "flow")))
    settings = FlowOptSettings(steps=4, guidance=5.0, iterations=0, tolerance=1e-6)
    [iterate] = invert(settings, model, images[:2], ["a cat", "a dog"])
    assert (iterate.step.residual < 1e-3).all()


@pytest.mark.parametrize(
    ("experiments", "words"),
    [
        ([EDITING | {"exp_name": "../evil"}], ["the exp_name of experiment 1", "folder"]),
        ([EDITING | {"exp_name": "a/b"}], ["exp_name"]),
        ([EDITING | {"exp_name": ".."}], ["exp_name"]),
        ([EDITING | {"exp_name": "a\\b"}], ["exp_name"]),
        ([EDITING | {"exp_name": 5}], ["exp_name"]),
        ([EDITING | {"exp_name": "x" * 300}], ["exp_name"]),
        ([EDITING | {"model_type": "SDXL"}], ["model_type", "SD3 or FLUX", "SDXL"]),
        ([EDITING, EDITING | {"model_type": "FLUX"}], ["same model_type", "SD3 and FLUX"]),
        ([EDITING | {"inversion": "no"}], ["inversion of experiment 1", "true or false"]),
        ([EDITING, EDITING | {"dataset_yaml": None}], ["dataset_yaml of experiment 2"]),
        ([EDITING, EDITING | {"dataset_yaml": "no.yaml"}], ["no.yaml"]),
        ([EDITING, EDITING | {"eta": -1}], ["--eta"]),
        ([EDITING, EDITING | {"n_max": 9}], ["--last"]),
        ([EDITING, {"init_img": "a.png"}], ["dataset_yaml of experiment 2"]),
        ([INVERSION], ["asks for an inversion", "Type: evoken invert"]),
    ],
)
def test_nothing_is_written_for_any_if_one_is_wrong(
    evoken: Any, folder: Path, experiments: list[dict[str, Any]], words: list[str]
) -> None:
    before = files(Path())
    file = written(folder, *experiments)
    refused(evoken("edit", file, "--output", "out"), *words)
    file.unlink()
    assert files(Path()) == before and not Path("out").exists()


def test_edits_are_not_inverted_by_mistake(evoken: Any, folder: Path) -> None:
    file = written(folder, EDITING)
    refused(evoken("invert", file), "asks for no inversion", f"Type: evoken edit {file}")


def test_a_folder_that_is_there_stops_all(evoken: Any, folder: Path) -> None:
    other = EDITING | {"exp_name": "other"}
    Path("out/other").mkdir(parents=True)
    Path("out/other/mine.txt").write_text("mine")
    refused(evoken("edit", written(folder, EDITING, other), "--output", "out"), "out/other already")
    assert [p.name for p in Path("out").iterdir()] == ["other"]


def test_python_takes_one_at_a_time(folder: Path) -> None:
    with pytest.raises(SettingError, match="describes 2 experiments, where one is possible"):
        edit_into("out", written(folder, EDITING, EDITING))


def test_ctrl_c_says_how_all_of_them_go_on(
    evoken: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: StableDiffusion3, *arguments: Any) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        return denoise(self, *arguments)

    denoise = StableDiffusion3.denoise
    file = written(folder, EDITING, EDITING | {"exp_name": "other"})
    with monkeypatch.context() as patch:
        patch.setattr(StableDiffusion3, "denoise", interrupted)
        result = evoken("edit", file, "--output", "out")
    assert result.exit_code == 130
    said = " ".join(result.stderr.split())
    assert "evoken edit --resume out/FlowOpt_SD3 && evoken edit --resume out/other" in said
    assert evoken("edit", "--resume", "out/other").exit_code == 0


def tree(run: Path) -> list[str]:
    top = run / "saved_info"
    return sorted(str(file.relative_to(top)) for file in top.rglob("*") if file.is_file())


def test_the_scripts_folders_of_an_edit(evoken: Any, folder: Path) -> None:
    file = written(folder, EDITING)
    result = evoken("edit", file, "--output", "out", "--saved-info")
    assert result.exit_code == 0, result.output
    top = "FlowOpt_SD3/SD3/eta=0.01"
    names = [f"output_flowopt_iterations={i}_T_steps=4_n_max=3_cfg=2.5.png" for i in range(3)]
    expected = [
        f"{top}/{place}/{name}"
        for place in ("src_bear/tar_0", "src_bear/tar_1", "src_cake/tar_0")
        for name in (*names, "prompts.txt")
    ]
    assert tree(Path("out")) == expected
    run, at = FlowOptRun.open("out"), Path("out/saved_info", top, "src_bear/tar_1")
    assert (at / names[2]).read_bytes() == run.picture(1, 2).read_bytes()
    assert (at / "prompts.txt").read_text() == (
        f"Source prompt: {run.config['sources'][1]}\nTarget prompt: a bear in pixar style\n"
    )
    assert evoken("edit", file, "--output", "without").exit_code == 0
    assert not Path("without/saved_info").exists()


def test_the_scripts_names_are_of_the_strength_of_each(evoken: Any, folder: Path) -> None:
    strengths = ("--strength", "2:3", "--strength", "4:2:0.5", "--iterations", 1, "--seeds", 2)
    (folder / "edits.yaml").write_text(yaml.safe_dump(yaml.safe_load(EDITS)[-1:]))
    file = written(folder, EDITING)
    result = evoken("edit", file, "--output", "out", "--saved-info", *strengths)
    assert result.exit_code == 0, result.output
    run = FlowOptRun.open("out")
    seed = run.settings.seed
    begins = ["n_max=3_cfg=2.0"]
    begins += [f"n_max=2_cfg=4.0_fresh=0.5_seed={seed + i}" for i in (0, 1)]
    names = [f"iterations={update}_T_steps=4_{begin}" for update in (0, 1) for begin in begins]
    assert len(names) == len(run.records())
    made = {file.name: file.read_bytes() for file in Path("out/saved_info").rglob("*.png")}
    for record in run.records():
        update, strength = record["update"], record["strength"]
        begin = begins[0] if strength == "2:3" else begins[1 + record["seed"] - seed]
        name = f"output_flowopt_iterations={update}_T_steps=4_{begin}.png"
        assert made.pop(name) == run.picture(0, record["iteration"]).read_bytes()
    assert not made


def test_the_scripts_folders_of_an_inversion(evoken: Any, folder: Path) -> None:
    result = evoken("invert", written(folder, INVERSION), "--output", "out", "--saved-info")
    assert result.exit_code == 0, result.output
    name = "output_flowopt_iterations=1_T_steps=3_n_max=3_cfg=2.0.png"
    top = "FlowOpt_inversion_SD3/SD3/eta=0.01"
    # The bear is there twice: once for each of the targets, which an inversion does not look at.
    assert tree(Path("out")) == [f"{top}/src_bear/{name}", f"{top}/src_cake/{name}"]


def test_pictures_of_one_name_do_not_overwrite_each_other(evoken: Any, folder: Path) -> None:
    entries = yaml.safe_load(EDITS)
    (folder / "edits.yaml").write_text(yaml.safe_dump([entries[0], entries[0]]))
    assert (
        evoken("edit", written(folder, EDITING), "--output", "out", "--saved-info").exit_code == 0
    )
    found = {Path(name).parent.name for name in tree(Path("out"))}
    assert found == {"tar_0", "tar_1", "tar_2", "tar_3"}


@pytest.mark.parametrize("name", ["exp_name", "model_type"])
def test_folders_without_a_name_are_refused(evoken: Any, folder: Path, name: str) -> None:
    file = written(folder, {k: v for k, v in EDITING.items() if k != name})
    result = evoken("edit", file, "--output", "out", "--saved-info")
    refused(result, "--saved-info needs a YAML with exp_name and model_type")
    picture = ("edit", "dataset/cake.png", "--from", "a", "--to", "b", "--output", "out")
    refused(evoken(*picture, "--saved-info"), "--saved-info needs a YAML")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "about", [{"exp_name": "../../../x", "model_type": "SD3"}, {"exp_name": "x"}, "x", None]
)
def test_a_config_of_anybody_does_not_write_elsewhere(
    evoken: Any, folder: Path, about: object
) -> None:
    assert evoken("edit", written(folder, EDITING), "--output", "out").exit_code == 0
    run = FlowOptRun.open("out")
    run.config["saved_info"] = about
    before = files(Path())
    with pytest.raises(RunError, match="saved_info names no folders"):
        write_saved_info(run)
    assert files(Path()) == before


def test_the_time_left_takes_the_start_for_what_it_is(
    tiny_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that counts the denoiser's calls, the forecast is right from the first on."""
    text = StringIO()
    model = load_model(ModelSpec(str(tiny_folder / "flow")))
    asked = Request("dataset/cake.png", "a cake", ("a wedding cake",))
    changes = {"steps": 5, "last": 3, "iterations": 2, "guidance": 2.0}
    clip = str(tiny_folder / "clip")
    made = begun("out", asked, model, "official-sd3-edit", changes, clip)
    monkeypatch.setattr(job, "time", SimpleNamespace(monotonic=lambda: model.calls))
    made.finish(Display(Console(file=text, width=200)))
    assert re.findall(r"(\d+) s left", text.getvalue()) == ["12", "6", "0"]
