"""evoken from Python: what a program or a notebook sees of it."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch

import evoken
from evoken.errors import EvokenError, ImageError, SettingError, WordError
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.pictures.drawing import Pictures
from evoken.words.word import Word
from tests import commands

pytestmark = pytest.mark.usefixtures("own_folder")
SMALL: dict[str, Any] = {"popsize": 5, "draws": 4, "validation_draws": 8, "calls": 128}
QUICK = SMALL | {"samples": 0, "preview_every": 0}


def test_the_public_names_are_shown_and_exist() -> None:
    assert set(evoken.__all__) <= set(dir(evoken))
    assert all(getattr(evoken, name) is not None for name in evoken.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lern'"):
        _ = evoken.lern  # type: ignore[attr-defined]


def test_importing_is_quick_and_nothing_else_prints() -> None:
    code = (
        "import sys, evoken; assert 'torch' not in sys.modules; evoken.LearnSettings('<x>');"
        "assert 'torch' not in sys.modules; evoken.load_model('stickers'); evoken.load_clip()"
    )
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_what_needs_no_model_loads_neither_diffusers_nor_transformers(
    done: Path, photos: Path
) -> None:
    """They take longer to import than all else that such a command does, and refusals would wait
    for them.
    """
    code = """
import sys
from typer.testing import CliRunner
from evoken.cli.app import app
import evoken.web.app
for line in sys.stdin.read().splitlines():
    code, *arguments = line.split()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == int(code), result.output
    assert not {"diffusers", "transformers"} & set(sys.modules), line
"""
    shutil.copytree(done, "runs/other")
    typed = f"""0 runs
0 compare {done} runs/other
0 merge {done} {done} --output both.safetensors
0 convert {done} --to pt
2 evaluate {done} --scorer nowhere
2 edit nowhere --from cat --to dog
2 finish nowhere
2 generate cat --model no/wh/ere
2 generate cat --word nowhere
2 inspect nowhere
2 learn nowhere
2 learn {photos} --output runs/new --clip no/wh/ere
2 learn {photos} --output runs/new --model no/wh/ere
2 pick {done} 99
2 retrieve {done} nowhere"""
    found = subprocess.run(
        [sys.executable, "-c", code], input=typed, text=True, capture_output=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_types_are_shipped() -> None:
    assert Path(evoken.__file__).with_name("py.typed").exists()


def _named(error: EvokenError) -> list[str]:
    """The names in backticks: what somebody in Python can type."""
    return re.findall(r"`(\w+)`", str(error))


def test_a_run_from_python_is_that_of_the_command(
    tiny_folder: Path, photos: Path, done: Path
) -> None:
    settings = evoken.preset("default", placeholder="<disc>", **SMALL)
    spec = evoken.ModelSpec(str(tiny_folder / "model"))
    clip = str(tiny_folder / "clip")
    run = evoken.learn_into("runs/python", str(photos), settings, spec, clip=clip)
    assert repr(run) == f"<LearnRun runs/python: <disc> on {spec.name}>"
    theirs, ours = commands.files(done), commands.files(run.path)
    names = {Path(name).relative_to(done): content for name, content in theirs.items()}
    mine = {Path(name).relative_to("runs/python"): content for name, content in ours.items()}
    assert set(names) == set(mine)
    word = Path("learned_embeds.safetensors")
    assert names[word] == mine[word]
    assert repr(run.word()) == f"<Word <disc>: 1 x {run.word().vectors.shape[1]}>"
    with pytest.raises(EvokenError, match="already") as refused:
        evoken.learn_into("runs/python", photos, settings, spec, clip=clip)
    assert set(_named(refused.value)) <= {*signature(evoken.learn_into).parameters, "resume"}


def test_an_interrupted_run_is_resumed_from_python(
    tiny_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = evoken.preset("default", placeholder="<disc>", **QUICK)
    model = evoken.load_model(evoken.ModelSpec(str(tiny_folder / "model")))
    clip = str(tiny_folder / "clip")
    whole = evoken.learn_into("whole", photos, settings, model, clip=clip, with_progress=True)
    assert "generation" in (shown := capsys.readouterr()).err and not shown.out
    lines = (whole.path / "records.jsonl").read_text().splitlines(keepends=True)
    expected = (whole.path / "learned_embeds.safetensors").read_bytes()
    (whole.path / "records.jsonl").write_text(lines[0])
    again = evoken.resume("whole")
    assert not capsys.readouterr().err
    assert (again.path / "learned_embeds.safetensors").read_bytes() == expected
    with pytest.raises(EvokenError, match="learn, invert or edit': it does not exist"):
        evoken.resume("nothing")


def test_pictures_of_another_size_or_shape_are_refused(
    model: StableDiffusion, photos: Path, images: torch.Tensor
) -> None:
    settings = evoken.preset("default", placeholder="<disc>", initialization="random", **QUICK)
    other = evoken.load_images(photos, 2 * model.size)
    said = "N x 3 x 16 x 16 (got 4 x 3 x 32 x 32). Load them with `load_images(..., 16)`"
    with pytest.raises(ImageError, match=re.escape(said)):
        evoken.learn_into("other", other, settings, model)
    fewer = replace(other, names=other.names[:2])
    with pytest.raises(ImageError, match="a name and a hash for each of its 4 pictures"):
        evoken.learn_into("other", fewer, settings, model)
    assert not Path("other").exists()
    for wrong in (other, other.images, images[0], images[:0], images.byte(), images / 0):
        with pytest.raises(ImageError, match="images must be"):
            next(evoken.learn(settings, model, wrong, None))  # type: ignore[arg-type]


def test_pictures_that_no_file_holds_are_learned_as_they_are_kept(
    tiny_folder: Path, photos: Path
) -> None:
    """A run that goes on reads them from its folder, in 256 levels."""
    settings = evoken.preset("default", placeholder="<disc>", initialization="random", **QUICK)
    model = evoken.load_model(evoken.ModelSpec(str(tiny_folder / "model")))
    found = evoken.load_images(photos, model.size)
    blurred = replace(found, images=0.9 * found.images + 0.01)
    run = evoken.learn_into("blurred", blurred, settings, model)
    whole, lines = run.word(), (run.path / "records.jsonl").read_text().splitlines(keepends=True)
    (run.path / "records.jsonl").write_text(lines[0])
    assert torch.equal(evoken.resume("blurred").word().vectors, whole.vectors)


def test_workers_are_one_argument(tiny_folder: Path, photos: Path, done: Path) -> None:
    settings = evoken.preset("default", placeholder="<disc>", **QUICK)
    spec, clip = evoken.ModelSpec(str(tiny_folder / "model")), str(tiny_folder / "clip")
    with pytest.raises(SettingError, match=r"`workers` must be a whole number \(got 1.5\)"):
        evoken.learn_into("no", photos, settings, spec, workers=1.5)  # type: ignore[arg-type]
    run = evoken.learn_into("shared", photos, settings, spec, clip=clip, workers=1)
    name = "learned_embeds.safetensors"
    assert (run.path / name).read_bytes() == (done / name).read_bytes()


def test_pictures_show_themselves(model: StableDiffusion) -> None:
    word = Word("<x>", model.embed("cat")[:1])
    pictures = evoken.draw(model, "a <x> in space", word, count=3, steps=2)
    assert isinstance(pictures, Pictures) and len(pictures) == 3
    assert pictures[0].size == (model.size, model.size) and len(pictures[1:]) == 2
    assert pictures._repr_png_().startswith(b"\x89PNG")
    assert repr(pictures) == "<3 pictures of 'a <x> in space', 16 px>"
    assert pictures.save("drawn").exists() and len(list(Path("drawn").iterdir())) == 4
    plain = evoken.draw(model, "a cat in space", count=3, steps=2)
    assert torch.equal(plain.images, pictures.images)  # the word is the cat's own vector


def test_a_word_that_cannot_stand_there_is_refused(model: StableDiffusion) -> None:
    with pytest.raises(WordError, match="does not contain the word '<x>'"):
        evoken.draw(model, "a cat", Word("<x>", model.embed("cat")[:1]))
    with pytest.raises(WordError, match="width"):
        evoken.draw(model, "a <x>", Word("<x>", torch.zeros(1, 7)))


def test_unknown_settings_name_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"called 'popsze'\. Use `popsize`"):
        evoken.preset("default", placeholder="<x>", popsze=3)
    with pytest.raises(SettingError, match=r"called 'iteration'\. Use `iterations`"):
        evoken.flowopt_preset("edit", iteration=3)


def test_settings_are_explained() -> None:
    for kind in (evoken.LearnSettings, evoken.FlowOptSettings, evoken.ModelSpec):
        fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
        assert all(f"        {name}: " in (kind.__doc__ or "") for name in fields)


def test_pictures_are_edited_and_inverted_into_folders(tiny_folder: Path, photos: Path) -> None:
    flow = evoken.load_model(str(tiny_folder / "flow"))
    small: dict[str, Any] = {"steps": 3, "last": 2, "iterations": 1}
    picture = str(photos / "0.png")
    edited = evoken.edit_into(
        "edit", picture, "a cat", "a dog", flow, clip=str(tiny_folder / "clip"), **small
    )
    assert len(edited.records()) == 2 and edited.pick(1)[0].exists()
    assert repr(edited).startswith("<FlowOptRun edit: edit on ")
    with pytest.raises(SettingError, match="Leave out `calls`"):
        evoken.resume("edit", calls=9)
    lines = (edited.path / "records.jsonl").read_text().splitlines(keepends=True)
    before = commands.files(edited.path)
    (edited.path / "records.jsonl").write_text(lines[0])
    evoken.resume("edit")
    assert len(edited.records()) == 2 and set(commands.files(edited.path)) == set(before)
    found = evoken.invert_into("invert", picture, "a cat", flow, **small)
    assert (found.path / "noise.safetensors").exists()
    with pytest.raises(SettingError, match="no `target`"):
        evoken.edit_into("no", picture, "a cat", model=flow)
    with pytest.raises(EvokenError, match="already") as refused:
        evoken.edit_into("edit", picture, "a cat", "a dog", flow)
    assert set(_named(refused.value)) <= {*signature(evoken.edit_into).parameters, "resume"}


def test_an_evaluation_takes_a_word(model: StableDiffusion, clip: Clip) -> None:
    images = torch.zeros(3, 3, 16, 16)
    learned = evoken.evaluate(model, clip, images, Word("<x>", model.embed("cat")[:1]), count=2)
    plain = evoken.evaluate(model, clip, images, "cat", count=2)
    assert learned == plain and learned.judge is None
    with pytest.raises(SettingError, match="`kind` must be one of object, style"):
        evoken.evaluate(model, clip, images, "cat", kind="thing")
