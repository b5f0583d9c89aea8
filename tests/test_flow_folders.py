"""Edits of another method or on other weights are not taken for ours."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from evoken.errors import RunError, SettingError
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.tasks import read_edits
from tests.commands import evoken, files, refused

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.parametrize("model", ["FLUX", "SD3"])
def test_an_experiment_of_flowedit_is_not_run_as_flowopt(model: str) -> None:
    Path("edits.yaml").write_text(
        yaml.safe_dump(
            [{"init_img": "a.png", "source_prompt": "a cat", "target_prompts": ["a dog"]}]
        )
    )
    experiment = {"dataset_yaml": "edits.yaml", "model_type": model, "T_steps": 5}
    Path("ours.yaml").write_text(yaml.safe_dump([experiment]))
    assert read_edits(Path("ours.yaml"), invert=False)[0].sources == ("a cat",)
    theirs = experiment | {"sampler_type": f"FlowEdit{model}"}
    Path("theirs.yaml").write_text(yaml.safe_dump([theirs]))
    with pytest.raises(SettingError, match=f"one of FlowEdit .*FlowEdit{model}"):
        read_edits(Path("theirs.yaml"), invert=False)
    refused(evoken("edit", "theirs.yaml"), "one of FlowEdit", "sampler_type")
    assert not Path("runs").exists()


def test_an_edit_goes_on_only_with_the_weights_that_it_began_with(tiny_folder: Path) -> None:
    model = Path(shutil.copytree(tiny_folder / "flow", "model"))
    Image.linear_gradient("L").save("grey.png")
    few = ("--steps", 2, "--last", 2, "--iterations", 1)
    made = evoken("edit", "grey.png", "--from", "a cat", "--to", "a dog", "--model", model, *few)
    assert made.exit_code == 0, made.output
    run = FlowOptRun.open("runs/grey-edit")
    assert len(run.config["weights"]) == 64 and "torch" in run.config["versions"]
    assert evoken("edit", "--resume", run.path).exit_code == 0
    before = files(run.path)
    config = json.loads((run.path / "config.json").read_text())
    for name in model.glob("transformer/*.safetensors"):
        content = bytearray(name.read_bytes())
        content[-1] ^= 1
        name.write_bytes(content)
    refused(evoken("edit", "--resume", run.path), "not those that the run started with")
    assert files(run.path) == before and config["command"] == "edit"


def test_nothing_is_picked_before_anything_is_drawn(edited: Path) -> None:
    path = Path(shutil.copytree(edited, "runs/house-edit"))
    (path / "records.jsonl").write_text("")
    for number in ((), (0,)):
        refused(evoken("pick", path, *number), "its first iterate is not done", "--resume")


@pytest.mark.parametrize(
    "shade", range(8)
)  # whose hashes are smaller and larger than the right one
def test_a_picture_that_was_changed_is_not_picked(edited: Path, shade: int) -> None:
    run = FlowOptRun.open(shutil.copytree(edited, "runs/house-edit"))
    assert len(run.pick(1)) == 1
    Image.new("RGB", (16, 16), (shade, 0, 0)).save(run.picture(0, 1))
    with pytest.raises(RunError, match="not as it was written"):
        run.pick(1)
    run.picture(0, 1).unlink()
    with pytest.raises(RunError, match="damaged"):
        run.pick(1)
    assert len(run.pick(0)) == 1


@pytest.mark.parametrize("letter", ["a", "é", "写"])
def test_a_picture_may_have_the_longest_name_there_is(letter: str, tiny_folder: Path) -> None:
    size = len(letter.encode())
    name = letter * (251 // size) + ".png"
    Image.linear_gradient("L").save(name)
    few = ("--model", tiny_folder / "flow", "--steps", 2, "--last", 2)
    made = evoken("edit", name, "--from", "a cat", "--to", "a dog", *few)
    assert made.exit_code == 0, made.output
    [folder] = Path("runs").iterdir()
    [file] = FlowOptRun.open(folder).pick(0)
    assert file.name == f"00-{letter * (100 // size)}-0.png" and file.is_file()


def test_an_iterate_that_could_not_be_compared_is_not_suggested(
    edited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FlowOptRun.open(edited)
    records = [r | {"agreement": [None]} if r["iteration"] else r for r in run.records()]
    monkeypatch.setattr(run, "records", lambda: records)
    assert run.suggestions() == [0]
