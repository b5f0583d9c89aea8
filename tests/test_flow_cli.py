"""evoken invert, edit, pick and flowopt step-size: in-process, on a small flow model."""

import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result
from PIL import Image, ImageChops
from safetensors.torch import load_file
from typer.testing import CliRunner

from evoken.cli.app import app
from evoken.errors import SettingError
from evoken.flowopt import step_size
from evoken.flowopt.edit import Iterate
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.settings import FLOWOPT_PRESETS, FlowOptSettings, flowopt_preset
from evoken.flowopt.tasks import read_edits
from evoken.models.families.stable_diffusion_3 import StableDiffusion3
from evoken.run_folder import read_inputs, write_inputs
from evoken.words.word import Word, save_word
from tests import tiny

Evoken = Callable[..., Result]
SMALL = ("--steps", "4", "--iterations", "3")
ONE = (*SMALL, "--guidance", "4")  # of an edit, in place of a strip


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 30).convert("RGB").save("house.png")
    return Path("house.png")


@pytest.fixture
def evoken(tiny_folder: Path) -> Evoken:
    def run(command: str, *arguments: object) -> Result:
        given = [command, *map(str, arguments)]
        if command in ("invert", "edit") and "--resume" not in given and "--model" not in given:
            given += ["--model", str(tiny_folder / "flow")]
        if command == "edit" and "--resume" not in given:
            given += ["--clip", str(tiny_folder / "clip")]
        return CliRunner().invoke(app, given)

    return run


def edited(evoken: Evoken, photo: Path, *arguments: object) -> Result:
    return evoken("edit", photo, "--from", "a cat", "--to", "a dog", *ONE, *arguments)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_inversion_leaves_noise_iterates_and_a_report(evoken: Evoken, photo: Path) -> None:
    result = evoken("invert", photo, "--prompt", "a photo of a cat", *SMALL)
    assert result.exit_code == 0, result.output
    run = FlowOptRun.open(Path("runs/house-invert"))
    records = run.records()
    assert [r["iteration"] for r in records] == [0, 1, 2, 3]
    best = min(range(4), key=lambda i: records[i]["residual"][0])
    noise = load_file(run.path / "noise.safetensors")["noise"]
    assert torch.equal(noise, run.earlier()[best].latents)
    assert all(run.picture(0, i).exists() for i in range(4))
    report = (run.path / "report.html").read_text()
    assert report.count("<figure>") == 5 and "autoencoder only" in report
    assert "http" not in report.replace("http://www.w3.org", "")
    for word in ("calls a picture", "RMSE", "best residual", "s left", "iterate 3"):
        assert word in result.output


def test_an_edit_keeps_every_iterate_and_one_is_picked(evoken: Evoken, photo: Path) -> None:
    result = edited(evoken, photo)
    assert result.exit_code == 0, result.output
    assert "CLIP" in result.output and "evoken pick runs/house-edit" in result.output
    assert all(r["agreement"] for r in FlowOptRun.open(Path("runs/house-edit")).records())
    result = evoken("pick", "runs/house-edit", 2)
    assert result.exit_code == 0, result.output
    picked = Path("runs/house-edit/picked/00-house-2.png")
    assert picked.read_bytes() == Path("runs/house-edit/iterates/00-002.png").read_bytes()
    result = evoken("pick", "runs/house-edit", 9)
    assert result.exit_code == 2 and "from 0 to 3" in result.stderr


def test_without_a_number_the_suggested_iterate_is_picked(evoken: Evoken, photo: Path) -> None:
    edited(evoken, photo)
    run = FlowOptRun.open(Path("runs/house-edit"))
    (number,) = run.suggestions() or [-1]
    result = evoken("pick", "runs/house-edit")
    assert result.exit_code == 0, result.output
    assert [f.name for f in run.path.glob("picked/*")] == [f"00-house-{number}.png"]
    assert "suggested" in (run.path / "report.html").read_text()
    evoken("invert", photo, "--prompt", "a cat", *SMALL, "--output", "runs/inverted")
    result = evoken("pick", "runs/inverted")
    assert result.exit_code == 2 and "Give an iterate" in result.stderr


@pytest.mark.parametrize("rule", ["anderson", "barzilai-borwein", "estimated", "fixed", "adam"])
@pytest.mark.parametrize("iterates", [0, 2])
def test_ctrl_c_loses_nothing_and_resume_ends_where_the_run_would_have(
    evoken: Evoken, photo: Path, monkeypatch: pytest.MonkeyPatch, rule: str, iterates: int
) -> None:
    assert edited(evoken, photo, "--rule", rule, "--output", "whole").exit_code == 0
    save, denoise = FlowOptRun.save, StableDiffusion3.denoise
    saved: list[int] = []

    def counting(self: FlowOptRun, iterate: Any) -> None:
        save(self, iterate)
        saved.append(iterate.step.iteration)

    def interrupted(self: StableDiffusion3, *arguments: Any) -> torch.Tensor:
        if len(saved) == iterates:
            saved.append(-1)  # once only
            os.kill(os.getpid(), signal.SIGINT)
        return denoise(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(FlowOptRun, "save", counting)
        patch.setattr(StableDiffusion3, "denoise", interrupted)
        result = edited(evoken, photo, "--rule", rule, "--output", "cut")
    assert result.exit_code == 130 and "evoken edit --resume cut" in result.stderr
    assert len(FlowOptRun.open(Path("cut")).records()) == iterates
    result = evoken("edit", "--resume", "cut")
    assert result.exit_code == 0, result.output
    whole, cut = files(Path("whole")), files(Path("cut"))
    for differs in ("report.html", "config.json"):  # its folder's name; when it began
        whole.pop(differs), cut.pop(differs)
    assert whole == cut


def test_resuming_a_finished_run_changes_nothing(evoken: Evoken, photo: Path) -> None:
    edited(evoken, photo)
    before = files(Path("runs/house-edit"))
    assert evoken("edit", "--resume", "runs/house-edit").exit_code == 0
    assert files(Path("runs/house-edit")) == before


def test_pictures_side_by_side_are_those_alone(evoken: Evoken, photo: Path) -> None:
    """But for the rounding of calls with other numbers of rows, which a level of 255 may show."""
    Path("two").mkdir()
    for name, turn in (("a.png", 0), ("b.png", 180)):
        Image.open(photo).rotate(turn).save(Path("two") / name)
    assert edited(evoken, Path("two"), "--output", "together").exit_code == 0
    for i, name in enumerate(("a.png", "b.png")):
        assert edited(evoken, Path("two") / name, "--output", f"alone-{i}").exit_code == 0
        for number in range(4):
            one = FlowOptRun.open(Path(f"alone-{i}")).picture(0, number)
            both = FlowOptRun.open(Path("together")).picture(i, number)
            apart = ImageChops.difference(Image.open(one), Image.open(both))
            assert max(high for _, high in apart.getextrema()) <= 1


def test_a_learned_word_may_stand_in_the_target(
    evoken: Evoken, photo: Path, tiny_folder: Path
) -> None:
    Path("disc").mkdir()
    for i in range(3):
        Image.open(photo).rotate(90 * i).save(f"disc/{i}.png")
    learned = CliRunner().invoke(
        app,
        [
            "learn",
            "disc",
            "--model",
            str(tiny_folder / "flow"),
            "--clip",
            str(tiny_folder / "clip"),
            "--popsize",
            "5",
            "--draws",
            "4",
            "--validation-draws",
            "8",
            "--calls",
            "80",
            "--samples",
            "0",
        ],
    )
    assert learned.exit_code == 0, learned.output
    plain = edited(evoken, photo, "--output", "plain")
    with_word = evoken(
        "edit",
        photo,
        "--from",
        "a cat",
        "--to",
        "a <disc>",
        *ONE,
        "--word",
        "runs/disc",
        "--output",
        "word",
    )
    assert plain.exit_code == with_word.exit_code == 0, with_word.output
    first = [FlowOptRun.open(Path(p)).picture(0, 0).read_bytes() for p in ("plain", "word")]
    assert first[0] != first[1]
    assert "Taking the model" not in with_word.output  # one was given


def test_an_edit_that_has_enough_ends_early(evoken: Evoken, photo: Path) -> None:
    result = edited(evoken, photo, "--last", 3, "--iterations", 30, "--patience", 1, "--eta", 1)
    assert result.exit_code == 0
    assert len(FlowOptRun.open(Path("runs/house-edit")).records()) < 31
    assert Path("runs/house-edit/report.html").exists()


def test_too_large_a_step_says_so_and_keeps_the_best(evoken: Evoken, photo: Path) -> None:
    result = evoken("invert", photo, "--prompt", "a cat", *SMALL, "--rule", "fixed", "--eta", 90)
    assert result.exit_code == 0 and "diverged" in result.output
    records = FlowOptRun.open(Path("runs/house-invert")).records()
    noise = load_file("runs/house-invert/noise.safetensors")["noise"]
    assert records[1]["diverged"] == [True] and noise.isfinite().all()


def test_step_size_prints_a_bound_that_holds(
    evoken: Evoken, photo: Path, tiny_folder: Path
) -> None:
    result = evoken(
        "flowopt",
        "step-size",
        photo,
        "--prompt",
        "a cat",
        "--steps",
        4,
        "--model",
        tiny_folder / "flow",
    )
    assert result.exit_code == 0, result.output
    eta = float(result.output.split("--eta ")[1].split()[0])
    assert eta > 0
    result = evoken(
        "invert",
        photo,
        "--prompt",
        "a cat",
        *SMALL,
        "--rule",
        "fixed",
        "--eta",
        eta,
        "--start",
        "uniinv",
    )
    residuals = [r["residual"][0] for r in FlowOptRun.open(Path("runs/house-invert")).records()]
    assert residuals == sorted(residuals, reverse=True)


def test_a_picture_that_no_step_size_contracts_for_is_told(
    evoken: Evoken, photos: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two, the first; the advice is for the other."""
    bounds = step_size.step_bound

    def first_none(*points: Any) -> Any:
        found = bounds(*points).abs() + 0.1
        found[0] = -1
        return found

    monkeypatch.setattr(step_size, "step_bound", first_none)
    model = ("--steps", 4, "--model", tiny_folder / "flow")
    result = evoken("flowopt", "step-size", photos, "--prompt", "a cat", *model)
    lines = result.output.splitlines()
    names = [file.name for file in sorted(photos.iterdir())]
    assert f"{names[0]}: no step size contracts" in lines
    assert any(line.startswith(f"{names[1]}: the smallest bound found is") for line in lines)
    assert "for all of the others together" in lines[-1]


# The YAML files of the official script.

EDITS = [
    {
        "init_img": "data/a.png",
        "source_prompt": "a cat",
        "target_prompts": ["a dog", "a bird"],
        "target_codes": ["1_dog", "2_bird"],
    },
    {
        "init_img": "data/b.png",
        "source_prompt": "a house",
        "target_prompts": ["a red house"],
        "target_codes": ["1_red"],
    },
]
EXPERIMENT = [
    {
        "exp_name": "FlowOpt_SD3",
        "dataset_yaml": "yaml_files/edits.yaml",
        "model_type": "SD3",
        "T_steps": 5,
        "n_max": 4,
        "max_iterations": 2,
        "eta": 0.01,
        "src_guidance_scale": 1.0,
        "tar_guidance_scale": 3.5,
        "seed": 1024,
        "inversion": False,
    }
]


@pytest.fixture
def official(photo: Path) -> Path:
    """The official layout: pictures in one folder, YAML files in another."""
    for folder in ("data", "yaml_files"):
        Path(folder).mkdir()
    for name in ("a.png", "b.png"):
        Image.open(photo).save(Path("data") / name)
    Path("yaml_files/edits.yaml").write_text(yaml.safe_dump(EDITS))
    Path("yaml_files/exp.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return Path("yaml_files")


def test_the_official_yaml_files_run_unchanged(evoken: Evoken, official: Path) -> None:
    result = evoken("edit", official / "exp.yaml", "--output", "out")
    assert result.exit_code == 0, result.output
    run = FlowOptRun.open(Path("out"))
    assert run.config["targets"] == ["a dog", "a bird", "a red house"]
    expected = flowopt_preset("official-sd3-edit", steps=5, last=4, iterations=2, seed=1024)
    assert run.settings == expected
    assert len(run.records()) == 3
    [asked] = read_edits(official / "exp.yaml", False)
    assert asked.model.startswith("stabilityai/")
    with contextlib.chdir(official):
        assert all(
            p.exists() for asked in read_edits(Path("edits.yaml"), False) for p in asked.images
        )
    picked = evoken("pick", "out", 1).stdout.split("Picked: ")[1:]
    assert len({Path(p.strip()).read_bytes() for p in picked}) == 3  # two edits are of one file
    result = evoken("invert", official / "edits.yaml", "--output", "inverted", *SMALL)
    assert result.exit_code == 0, result.output
    assert FlowOptRun.open(Path("inverted")).config["sources"] == ["a cat", "a house"]


@pytest.mark.parametrize(
    "content", ["- init_img: data/a.png", "just text", "[1, 2]", "{unclosed", "[]"]
)
def test_a_yaml_that_lacks_something(evoken: Evoken, official: Path, content: str) -> None:
    (official / "bad.yaml").write_text(content)
    result = evoken("edit", official / "bad.yaml", "--output", "out")
    assert result.exit_code == 2 and "bad.yaml" in result.stderr and not Path("out").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"target_prompts": 5}, "target_prompts"),
        ({"target_prompts": [1]}, "target_prompts"),
        ({"source_prompt": None}, "entry 1"),
        ({"init_img": 3}, "entry 1"),
    ],
)
def test_a_yaml_with_values_of_another_kind(
    evoken: Evoken, official: Path, change: dict[str, Any], word: str
) -> None:
    (official / "bad.yaml").write_text(yaml.safe_dump([EDITS[0] | change]))
    result = evoken("edit", official / "bad.yaml", "--output", "out")
    assert result.exit_code == 2 and word in result.stderr and not Path("out").exists()


@pytest.mark.parametrize("change", [{"T_steps": "5"}, {"seed": None}, {"eta": [0.1]}])
def test_a_yaml_with_settings_of_another_kind(
    evoken: Evoken, official: Path, change: dict[str, Any]
) -> None:
    (official / "bad.yaml").write_text(yaml.safe_dump([EXPERIMENT[0] | change]))
    result = evoken("edit", official / "bad.yaml", "--output", "out")
    assert result.exit_code == 2 and not Path("out").exists()
    assert re.search(r" --\w+ must be a (whole )?number \(got ", result.stderr), result.stderr


def test_one_target_may_stand_alone(evoken: Evoken, official: Path) -> None:
    (official / "one.yaml").write_text(yaml.safe_dump([EDITS[0] | {"target_prompts": "a dog"}]))
    assert read_edits(official / "one.yaml", False)[0].targets == ("a dog",)
    result = evoken("edit", official / "one.yaml", "--to", "a bird", "--output", "out")
    assert result.exit_code == 2 and "'a bird' came as well. Leave out --from" in result.stderr


def test_a_word_serves_every_picture_of_a_yaml(evoken: Evoken, official: Path) -> None:
    vectors = torch.randn(1, 2 * tiny.WIDTH, generator=torch.Generator().manual_seed(1))
    word = Word("<disc>", vectors, {"clip_l": tiny.WIDTH, "clip_g": tiny.WIDTH})
    save_word(Path("word.safetensors"), word, {})
    asked = [EDITS[0] | {"target_prompts": ["a <disc>"]}]
    (official / "word.yaml").write_text(yaml.safe_dump(asked))
    for name, more in (("with", ("--word", "word.safetensors")), ("without", ())):
        result = evoken("edit", official / "word.yaml", "--output", name, *ONE, *more)
        assert result.exit_code == 0, result.output
    assert [p.name for p in Path("with").glob("*.safetensors")].count("word.safetensors") == 1
    found = [Path(name, "iterates/00-002.png").read_bytes() for name in ("with", "without")]
    assert found[0] != found[1]
    nowhere = ("edit", official / "edits.yaml", "--word", "word.safetensors", "--output", "no")
    result = evoken(*nowhere)
    assert result.exit_code == 2 and "<disc>" in result.stderr and not Path("no").exists()


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--steps", "0"), "--steps must be from 1 to 1,000 (got 0)."),
        (("--last", "9"), "--last"),
        (("--eta", "0"), "--eta"),
        (("--eta", "nan"), "--eta"),
        (("--guidance", "0.5"), "--guidance"),
        (("--fresh", "1.5"), "--fresh"),
        (("--rule", "newton"), "anderson"),
        (("--start", "ddim"), "uniinv"),
        (("--preset", "official-flux"), "official-flux-edit"),
        (("--model", "nothing"), "stickers-flow"),
        (("--to", "a red house " * 20), "at most 30 tokens"),
        (("--word", "nowhere"), "evoken learn"),
    ],
)
def test_bad_settings(evoken: Evoken, photo: Path, arguments: tuple[str, ...], word: str) -> None:
    result = edited(evoken, photo, *arguments)
    assert result.exit_code == 2 and word in result.stderr, result.output
    assert result.stderr.startswith("error: ") and not Path("runs").exists()


def test_bad_pictures(evoken: Evoken, photo: Path) -> None:
    Path("text.png").write_text("text")
    for name, word in (("text.png", "is not an image"), ("none.png", "does not exist")):
        result = edited(evoken, Path(name))
        assert result.exit_code == 2 and word in result.stderr
    result = evoken("edit", photo, "--from", "a cat")
    assert result.exit_code == 2 and "--to" in result.stderr
    for command, asked in (("invert", "--prompt"), ("edit", "--from")):
        result = CliRunner().invoke(app, [command])
        assert result.exit_code == 2 and f"{command} needs a picture, or --resume" in result.stderr
        assert f"Type: evoken {command} PICTURE {asked}" in result.stderr


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_pictures_of_other_modes_and_sizes(evoken: Evoken, photo: Path, mode: str) -> None:
    name = "other.jpg" if mode == "CMYK" else "other.png"
    Image.new(mode, (70, 33), 100 if mode in ("L", "P", "I;16") else None).save(name)
    assert edited(evoken, Path(name)).exit_code == 0


def test_what_becomes_of_a_picture_is_told(evoken: Evoken, photo: Path) -> None:
    Path("more/later").mkdir(parents=True)
    photo.rename("more/house.png")
    Path("more/copy.png").write_bytes(Path("more/house.png").read_bytes())
    Path("more/later/house.png").write_bytes(Path("more/house.png").read_bytes())
    Path("more/house.txt").write_text("a caption")
    for name in ("house2.mask.png", "plan.psd"):
        (Path("more") / name).write_bytes(b"no picture")
    Image.new("RGB", (40, 40), "white").save("more/white.png")
    result = evoken("invert", "more", "--prompt", "a cat", *SMALL, "--frame", "middle")
    assert result.exit_code == 0, result.output
    for note in (
        "Skipped 'house2.mask.png' and 'plan.psd': not images by their names.",
        "Note: the folder 'later' in it has pictures, too, which are not read.",
        "Note: there is one colour and nothing else in 'white.png'.",
        "Note: 'copy.png' and 'house.png' are the same picture.",
        "'copy.png' loses 25 % (left and right), 'house.png' loses 25 % (left and right).",
    ):
        assert note in result.output
    result = evoken("invert", "more", "--prompt", "a cat", *SMALL, "--output", "whole")
    assert result.exit_code == 0 and "loses" not in result.output
    shutil.rmtree("more/later")
    Path("outer").mkdir()
    Path("more").rename("outer/more")
    for name in ("copy.png", "white.png"):
        (Path("outer/more") / name).unlink()
    entry = {"init_img": "outer", "source_prompt": "a cat", "target_prompts": ["a dog"]}
    Path("edits.yaml").write_text(yaml.safe_dump([entry]))
    for asked in (("outer", "--prompt", "a cat"), ("edits.yaml",)):
        result = evoken("invert", *asked, *SMALL, "--output", Path(asked[0]).stem + "-run")
        assert f"Taking the pictures from {Path('outer/more')}." in result.output
        assert "Skipped 'house2.mask.png' and 'plan.psd'" in result.output


def test_a_yaml_that_names_a_picture_twice_is_not_told_of_copies(
    evoken: Evoken, photo: Path
) -> None:
    entry = {
        "init_img": "house.png",
        "source_prompt": "a cat",
        "target_prompts": ["a dog", "an otter"],
    }
    Path("edits.yaml").write_text(yaml.safe_dump([entry]))
    result = evoken("edit", "edits.yaml", *ONE, "--frame", "middle")
    assert result.exit_code == 0, result.output
    assert "same picture" not in result.output
    assert result.output.count("loses 25 %") == 1
    assert Path("runs/edits-edit/report.html").exists()


def test_both_commands_and_learn_have_folders_of_their_own(evoken: Evoken, photo: Path) -> None:
    Path("runs/house").mkdir(parents=True)
    Path("runs/house/learned").write_text("a word")
    assert edited(evoken, photo).exit_code == 0
    assert evoken("invert", photo, "--prompt", "a cat", *SMALL).exit_code == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["house", "house-edit", "house-invert"]
    assert list(files(Path("runs/house"))) == ["learned"]


def test_an_old_run_does_not_hide_what_is_wrong_with_a_picture(evoken: Evoken, photo: Path) -> None:
    Path("runs/house-edit").mkdir(parents=True)
    Path("runs/house-edit/old").write_text("old")
    whole = photo.read_bytes()
    photo.write_bytes(whole[:200])
    result = edited(evoken, photo, "--model", "nowhere")
    assert result.exit_code == 2 and "house.png is damaged" in result.stderr
    photo.write_bytes(whole)
    result = edited(evoken, photo, "--model", "nowhere")
    assert result.exit_code == 2 and "runs/house-edit already exists" in result.stderr
    assert list(files(Path("runs"))) == ["house-edit/old"]


def test_folders_that_are_no_run_of_this_kind(evoken: Evoken, photo: Path, tmp_path: Path) -> None:
    edited(evoken, photo)
    again = edited(evoken, photo)
    assert again.exit_code == 2 and "already exists" in again.stderr
    for command in (("pick", tmp_path, 1), ("edit", "--resume", tmp_path)):
        result = evoken(*command)
        assert result.exit_code == 2 and "invert or edit" in result.stderr
    result = evoken("learn", "--resume", "runs/house-edit")
    assert result.exit_code == 2 and "made by 'evoken edit'" in result.stderr
    config = json.loads(Path("runs/house-edit/config.json").read_text())
    Path("runs/house-edit/config.json").write_text(json.dumps(config | {"format": 99}))
    result = evoken("edit", "--resume", "runs/house-edit")
    assert result.exit_code == 2 and "format 99" in result.stderr


def test_nan_from_the_denoiser(
    evoken: Evoken, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise = StableDiffusion3.denoise
    monkeypatch.setattr(StableDiffusion3, "denoise", lambda *a: denoise(*a) * float("nan"))
    result = edited(evoken, photo)
    assert result.exit_code == 2 and "NaN" in result.stderr


def test_a_folder_that_cannot_be_written(evoken: Evoken, photo: Path) -> None:
    Path("file").write_text("in the way")
    result = edited(evoken, photo, "--output", "file/run")
    assert result.exit_code == 2 and "--output" in result.stderr
    assert Path("file").read_text() == "in the way"


@pytest.mark.parametrize("name", FLOWOPT_PRESETS)
def test_settings_survive_json(name: str) -> None:
    found = flowopt_preset(name)
    assert FlowOptSettings.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(SettingError, match="colour"):
        FlowOptSettings.from_dict({"colour": 1})


def test_an_iterate_that_is_not_finite_is_told_and_passed_over(
    evoken: Evoken, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, save, saved = StableDiffusion3.denoise, FlowOptRun.save, list[int]()

    def overflowing(self: StableDiffusion3, latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        found = before(self, latents, *rest)
        return found * torch.nan if saved == [0] else found

    def counting(run: FlowOptRun, iterate: Iterate) -> None:
        save(run, iterate)
        saved.append(iterate.step.iteration)

    monkeypatch.setattr(StableDiffusion3, "denoise", overflowing)
    monkeypatch.setattr(FlowOptRun, "save", counting)
    options = ("--rule", "fixed", "--output", "out", *SMALL)
    result = evoken("invert", photo, "--prompt", "a cat", *options)
    assert result.exit_code == 0, result.output
    records = FlowOptRun.open(Path("out")).records()
    assert records[1]["residual"] == [None] and records[1]["rmse"] == [None]
    assert "not finite" in Path("out/report.html").read_text()


@pytest.mark.parametrize("file", ["records.jsonl", "states/001.safetensors"])
def test_a_damaged_folder(evoken: Evoken, photo: Path, file: str) -> None:
    edited(evoken, photo)
    path = Path("runs/house-edit") / file
    path.write_bytes(b"{}\n" + path.read_bytes()[:20] + b"\n")
    result = evoken("edit", "--resume", "runs/house-edit")
    assert result.exit_code == 2 and file in result.stderr
    path.unlink()
    if file != "records.jsonl":
        result = evoken("edit", "--resume", "runs/house-edit")
        assert result.exit_code == 2 and file in result.stderr


@pytest.mark.parametrize("key", ["clip", "sources", "targets", "pictures"])
@pytest.mark.parametrize("value", [None, 5, [5], [{}]])
def test_a_config_that_is_not_as_it_was_written(
    evoken: Evoken, photo: Path, key: str, value: object
) -> None:
    edited(evoken, photo)
    file = Path("runs/house-edit/config.json")
    config = json.loads(file.read_text()) | {key: value}
    for other in (config, {k: v for k, v in config.items() if k != key}):
        file.write_text(json.dumps(other))
        for command in (("edit", "--resume", "runs/house-edit"), ("pick", "runs/house-edit")):
            result = evoken(*command)
            assert result.exit_code == 2 and "config.json is damaged" in result.stderr, command


def test_many_pictures_keep_their_order(tmp_path: Path) -> None:
    images = torch.arange(103.0)[:, None, None, None].expand(-1, 3, 16, 16) / 127.5 - 1
    write_inputs(tmp_path, images)
    assert torch.allclose(read_inputs(tmp_path, 103, 16), images, atol=1e-3)
