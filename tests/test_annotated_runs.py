"""Runs with masks and captions: what they keep, refuse and learn from."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import Result

import evoken
from evoken.annotations import Annotations
from evoken.errors import SettingError
from evoken.images import load_images
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.run_folder import read_masks, write_masks
from evoken.textual_inversion.checks import pictures_of, said_of_annotations
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Record, learn
from evoken.textual_inversion.settings import LearnSettings, preset
from evoken.words.files import WORD_FILE
from tests.commands import evoken as command
from tests.commands import files, refused
from tests.test_annotations import put_mask, thing

pytestmark = pytest.mark.usefixtures("own_folder")
FEW = ("--calls", 64)


def annotate(photos: Path) -> None:
    put_mask(photos, "0.mask.png")
    put_mask(photos, "2-masklabel.png")
    (photos / "1.txt").write_text("a photo of a <disc> on the beach")
    (photos / "2.txt").write_text("a red house {}")


def test_a_run_keeps_masks_and_captions_and_goes_on_with_them(
    learn: Callable[..., Result], photos: Path
) -> None:
    annotate(photos)
    result = learn("--output", "whole")
    assert result.exit_code == 0, result.output
    assert "Masks: of 2 of 4 pictures, only what the mask shows" in result.output
    assert "Captions: 2 of 4 pictures are learned in theirs (see --no-captions)." in result.output
    run = LearnRun.open("whole")
    kept = {p.name for p in Path("whole/inputs").iterdir()}
    assert kept == {"00.png", "01.png", "02.png", "03.png", "00-mask.png", "02-mask.png"}
    found = load_images(photos, 16).annotations
    again = run.annotations()
    assert (
        again.captions
        == found.captions
        == (
            "",
            "a photo of a <disc> on the beach",
            "a red house {}",
            "",
        )
    )
    assert again.masks is not None and found.masks is not None
    assert torch.equal(again.masks, found.masks)
    shutil.rmtree(photos)
    expected = files(Path("whole"))
    records = Path("whole/records.jsonl")
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:2]))
    Path("whole/learned_embeds.safetensors").unlink()
    assert command("learn", "--resume", "whole").exit_code == 0
    word = "whole/learned_embeds.safetensors"
    assert Path(word).read_bytes() == expected[word]


def test_masks_and_captions_change_the_word_unless_they_are_left_out(
    learn: Callable[..., Result], photos: Path, done: Path
) -> None:
    def word(folder: str | Path) -> bytes:
        return (Path(folder) / "learned_embeds.safetensors").read_bytes()

    annotate(photos)
    result = learn("--no-masks", "--no-captions", "--output", "without")
    assert result.exit_code == 0 and "Masks" not in result.output
    assert word("without") == word(done)
    assert learn("--no-masks", "--output", "captions").exit_code == 0
    assert learn("--no-captions", "--output", "masks").exit_code == 0
    assert len({word("captions"), word("masks"), word(done)}) == 3
    Path("config.yaml").write_text("masks: false\ncaptions: false\n")
    assert learn("--config", "config.yaml", "--output", "file").exit_code == 0
    assert word("file") == word(done)


def test_workers_see_masks_and_captions(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    annotate(photos)
    how: dict[str, Any] = {"popsize": 5, "draws": 4, "validation_draws": 20, "calls": 130}
    settings = evoken.preset("default", placeholder="<disc>", samples=0, **how)
    spec, clip = evoken.ModelSpec(str(tiny_folder / "model")), str(tiny_folder / "clip")
    alone = evoken.learn_into("alone", photos, settings, spec, clip=clip)
    found = evoken.load_images(photos, 16)
    shared = evoken.learn_into("shared", found, settings, spec, clip=clip, workers=2)
    assert torch.equal(alone.word().vectors, shared.word().vectors)
    assert [r.losses for r in alone.records()] == [r.losses for r in shared.records()]


def test_a_caption_that_is_too_long_is_refused_before_anything_is_written(
    learn: Callable[..., Result], photos: Path
) -> None:
    (photos / "3.txt").write_text("a <disc>" + " on the beach" * 20)
    refused(learn(), "the caption of '3.png' is too long", "--no-captions")
    (photos / "3.txt").write_text("on the beach" * 20)
    refused(learn(), "the caption of '3.png' is too long", "--no-captions")
    assert not Path("runs").exists()


def test_a_caption_with_another_word_is_told(photos: Path) -> None:
    (photos / "0.txt").write_text("a photo of a <Disc> on a sofa")
    (photos / "1.txt").write_text("a photo of a <disc> on a sofa")
    said = said_of_annotations(load_images(photos, 16), preset("default", placeholder="<disc>"))
    note = "Note: captions name '<Disc>', which is read as letters: the word is '<disc>'."
    assert said == ["Captions: 2 of 4 pictures are learned in theirs (see `captions`).", note]


def test_captions_are_asked_for_where_a_style_is_learned(photos: Path) -> None:
    def said(**changes: Any) -> str:
        settings = preset("default", placeholder="<disc>", **changes)
        return "\n".join(said_of_annotations(pictures_of(photos, 16, settings), settings))

    asked = "write a text such as 'a cat' into '{0}.txt' beside '{0}.png'"
    assert asked.format(0) in said(kind="style")
    assert not said() and not said(kind="style", captions=False)
    for i in range(3):
        (photos / f"{i}.txt").write_text("a hat")
    assert asked.format(3) in said(kind="style")
    (photos / "3.txt").write_text("a hat")
    assert "Note" not in said(kind="style")


def test_a_mask_that_cannot_be_used_is_one_clear_sentence(
    learn: Callable[..., Result], photos: Path
) -> None:
    put_mask(photos, "3.mask.png", (40, 40))
    refused(learn(), "3.mask.png must be as large as", "--no-masks")
    assert not Path("runs").exists()
    assert learn("--no-masks", *FEW).exit_code == 0


def test_a_mask_that_is_gone_from_the_run_is_damage(
    learn: Callable[..., Result], photos: Path
) -> None:
    annotate(photos)
    assert learn(*FEW).exit_code == 0
    Path("runs/disc/inputs/02-mask.png").unlink()
    refused(command("learn", "--resume", "runs/disc"), "02-mask.png is damaged")


def test_a_white_thing_on_transparency_is_learned_and_an_invisible_one_is_not(
    learn: Callable[..., Result],
) -> None:
    thing(Path("white"))
    result = learn(*FEW, images=Path("white"))
    assert result.exit_code == 0 and "Masks: of 4 of 4 pictures" in result.output
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save("white/0.png")
    refused(learn(images=Path("white")), "one colour", "'0.png'")


def test_copies_may_have_masks_and_captions_of_their_own(
    learn: Callable[..., Result], photos: Path
) -> None:
    for i in range(1, 4):
        (photos / f"{i}.png").write_bytes((photos / "0.png").read_bytes())
    annotate(photos)
    result = learn(*FEW)
    assert result.exit_code == 0 and "are the same picture" in result.output


def test_similarity_has_no_use_for_masks(learn: Callable[..., Result], photos: Path) -> None:
    with pytest.raises(SettingError, match="no use for `masks`"):
        LearnSettings("<x>", objective="similarity", search="cma", masks=False)
    annotate(photos)
    how = ("--objective", "similarity", "--search", "random", "--popsize", 5, "--calls", 800)
    tiny = learn(*how, "--draws", 16, "--validation-draws", 64)
    assert tiny.exit_code == 0, tiny.output
    assert "Masks" not in tiny.output and LearnRun.open("runs/disc").annotations().masks is None


def test_older_runs_have_neither(done: Path) -> None:
    inputs = json.loads((done / "inputs.json").read_text())
    assert all(set(file) == {"name", "sha256"} for file in inputs)
    assert LearnRun.open(done).annotations() == Annotations()


def test_learning_from_python_takes_them(model: StableDiffusion, clip: Clip, photos: Path) -> None:
    def records(annotations: Annotations) -> list[Record]:
        settings = LearnSettings("<disc>", popsize=5, draws=4, validation_draws=8, calls=64)
        return [r for _, r in learn(settings, model, found.images, clip, annotations=annotations)]

    annotate(photos)
    found = load_images(photos, model.size)
    losses = {r[-1].losses for r in (records(Annotations()), records(found.annotations))}
    assert len(losses) == 2


def test_a_run_knows_the_images_masks_and_captions_it_began_with(
    learn: Callable[..., Result], photos: Path
) -> None:
    put_mask(photos, "1.mask.png")
    (photos / "2.txt").write_text("a <disc> in the rain")
    assert learn(*FEW).exit_code == 0
    run = LearnRun.open("runs/disc")
    found = load_images(photos, 16)
    masks = found.annotations.masks
    assert masks is not None and run.began_with(found)

    def but(masks: torch.Tensor | None, captions: tuple[str, ...]) -> bool:
        return run.began_with(replace(found, annotations=Annotations(masks, captions)))

    captions = found.annotations.captions
    assert but((masks + 1 / 255).clamp(max=1), captions)  # as exact as a mask is kept
    assert not but((masks + 2 / 255).clamp(max=1), captions)
    assert not but(None, captions)
    assert not but(masks, ())
    assert not but(masks, ("", "", "a <disc> at night", ""))
    other = replace(found, hashes=(*found.hashes[:3], "0" * 64))
    assert not run.began_with(other)


def test_a_run_without_masks_began_with_none(learn: Callable[..., Result], photos: Path) -> None:
    assert learn(*FEW).exit_code == 0
    run = LearnRun.open("runs/disc")
    found = load_images(photos, 16)
    assert run.began_with(found)
    half = torch.full_like(found.images[:, :1], 0.5)
    assert not run.began_with(replace(found, annotations=Annotations(half)))


def test_the_masks_of_a_run_are_kept_beside_its_pictures(tmp_path: Path) -> None:
    levels = torch.randint(0, 256, (3, 1, 16, 16), generator=torch.Generator().manual_seed(0)) / 255
    levels[1] = 1  # a picture without a mask counts everywhere
    given = Annotations(levels)
    write_masks(tmp_path, given)
    assert sorted(p.name for p in (tmp_path / "inputs").iterdir()) == ["00-mask.png", "02-mask.png"]
    found = read_masks(tmp_path, given.masked)
    assert found is not None and torch.equal(found, levels)


def test_the_run_of_a_word_is_found_by_its_files(done: Path, edited: Path, tmp_path: Path) -> None:
    (done / "picked").mkdir()
    picked = Path(shutil.copy(done / WORD_FILE, done / "picked" / "0001.safetensors"))
    for path in (done, done / WORD_FILE, picked):
        run = LearnRun.of_word(path)
        assert run is not None and run.path == done
    alone = shutil.copy(done / WORD_FILE, tmp_path)
    assert LearnRun.of_word(alone) is None
    for inside, name in ((done, WORD_FILE), (picked.parent, picked.name), (done, ".")):
        with contextlib.chdir(inside):
            run = LearnRun.of_word(name)
            assert run is not None and run.path.samefile(tmp_path / done)
    edit = Path(shutil.copytree(edited, "runs/edit"))
    assert LearnRun.of_word(edit) is None
    assert LearnRun.of_word(shutil.copy(done / WORD_FILE, edit)) is None
