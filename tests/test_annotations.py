"""Masks and captions beside pictures: read, weighed, kept, and refused if they are of no use."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from typer.testing import Result

import evoken
from evoken.annotations import Annotations, read_scaled_mask
from evoken.errors import ImageError, SettingError
from evoken.images import load_images
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.prompts import KINDS
from evoken.run_folder import read_masks, write_masks
from evoken.textual_inversion.checks import pictures_of, said_of_annotations
from evoken.textual_inversion.draws import captioned, draw
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Record, learn
from evoken.textual_inversion.settings import LearnSettings, preset
from evoken.words.files import WORD_FILE
from tests.commands import evoken as command
from tests.commands import files, refused
from tests.test_objective import denoising, words

pytestmark = pytest.mark.usefixtures("own_folder")
FEW = ("--calls", 64)


def put_mask(photos: Path, name: str, size: tuple[int, int] = (40, 30)) -> Path:
    """A mask that is white where the square of ``make_photos`` is."""
    mask = Image.new("L", size)
    mask.paste(255, (14, 8, 24, 18))
    mask.save(photos / name)
    return photos / name


def thing(folder: Path, colour: tuple[int, int, int] = (255, 255, 255)) -> None:
    """Four pictures of a square on transparency."""
    folder.mkdir()
    for i in range(4):
        picture = Image.new("RGBA", (40, 40))
        picture.paste((*colour, 255), (10 + i, 10, 30 + i, 30))
        picture.save(folder / f"{i}.png")


@pytest.mark.parametrize("end", [".mask.png", "-masklabel.png", "-mask.png"])
def test_a_mask_beside_a_picture_is_cut_with_it_and_is_no_picture(photos: Path, end: str) -> None:
    put_mask(photos, f"2{end}")
    found = load_images(photos, 30)
    assert found.names == ("0.png", "1.png", "2.png", "3.png") and found.ignored == ()
    assert found.annotations.masked == (False, False, True, False)
    masks = found.annotations.masks
    assert masks is not None and masks.shape == (4, 1, 30, 30)
    magenta = (found.images[2] - torch.tensor([1.0, -1.0, 1.0])[:, None, None]).abs().amax(0) < 0.1
    assert torch.equal(masks[2, 0] > 0.5, magenta)
    assert load_images(photos, 30, masks=False).annotations.masks is None


def test_endings_in_capitals_are_as_good(photos: Path) -> None:
    put_mask(photos, "1.MASK.PNG")
    put_mask(photos, "2-Mask.png")
    (photos / "3.TXT").write_text("on a sofa")
    (photos / "0.png").rename(photos / "0.PNG")
    found = load_images(photos, 30)
    assert found.names == ("0.PNG", "1.png", "2.png", "3.png") and found.ignored == ()
    assert found.annotations.masked == (False, True, True, False)
    assert found.annotations.captions == ("", "", "", "on a sofa")


def test_of_two_masks_one_counts_and_the_other_is_told(photos: Path) -> None:
    put_mask(photos, "1.mask.png")
    put_mask(photos, "1-mask.png")
    found = load_images(photos, 30)
    assert found.ignored == ("1-mask.png",) and found.annotations.masked[1]


@pytest.mark.parametrize("name", ["1-mask.jpg", "1.mask.JPEG", "1-masklabel.webp"])
def test_a_mask_that_is_no_png_is_no_picture(photos: Path, name: str) -> None:
    picture = Image.new("L", (40, 30), 255)
    picture.save(photos / name)
    said = "has the name of a mask, which must be a PNG file. Save it as"
    with pytest.raises(ImageError, match=said):
        load_images(photos, 16)
    assert name in load_images(photos, 16, masks=False).names
    picture.resize((picture.width, picture.height)).save((photos / name).with_suffix(".png"))
    with pytest.raises(ImageError, match="Remove it, or learn without masks"):
        load_images(photos, 16)
    (photos / name).with_suffix(".png").unlink()
    (photos / "1.png").unlink()  # of nothing that is there
    assert name in load_images(photos, 16).names


def test_a_picture_of_a_mask_is_a_picture(photos: Path) -> None:
    (photos / "0.png").rename(photos / "red-mask.png")
    put_mask(photos, "gone.mask.png")
    found = load_images(photos, 16)
    assert found.names == ("1.png", "2.png", "3.png", "red-mask.png")
    assert found.ignored == ("gone.mask.png",) and found.annotations.masks is None


def test_alpha_is_a_mask_unless_all_is_opaque(tmp_path: Path) -> None:
    thing(tmp_path / "f")
    found = load_images(tmp_path / "f", 40)
    masks = found.annotations.masks
    assert masks is not None and found.blank == ()
    assert torch.equal(masks[0, 0] == 1, found.images[0, 0] == 1)  # white on grey
    assert float(masks.mean()) == 400 / 1600
    opaque = Image.new("RGBA", (40, 40), (9, 99, 9, 255))
    opaque.paste((200, 0, 0, 255), (0, 0, 20, 20))
    for i in range(4):
        opaque.save(tmp_path / "f" / f"{i}.png")
    assert load_images(tmp_path / "f", 40).annotations.masks is None


def test_a_mask_s_file_counts_more_than_alpha(tmp_path: Path) -> None:
    thing(tmp_path / "f")
    mask = Image.new("1", (40, 40))
    mask.paste(1, (0, 0, 20, 40))
    mask.save(tmp_path / "f" / "1.mask.png")
    masks = load_images(tmp_path / "f", 40).annotations.masks
    assert masks is not None and [float(m.mean()) for m in masks] == [0.25, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16", "cut out"])
def test_masks_are_read_in_every_mode(photos: Path, mode: str) -> None:
    path = put_mask(photos, "1.mask.png")
    mask = Image.open(path)
    if mode == "cut out":  # white paint on transparency
        white = Image.new("RGBA", mask.size, (255, 255, 255, 0))
        white.putalpha(mask)
        white.save(path)
    elif mode == "I;16":
        Image.fromarray(np.asarray(mask).astype(np.uint16) * 257).save(path)
    else:
        mask.convert(mode).save(path)
    masks = load_images(photos, 30).annotations.masks
    assert masks is not None
    assert set(masks[1].unique().tolist()) == {0, 1} and float(masks[1].sum()) == 100


def test_what_is_no_mask_is_refused(photos: Path) -> None:
    path = put_mask(photos, "0-masklabel.png", (30, 40))
    with pytest.raises(ImageError, match=r"as large as '0.png', 40 x 30 pixels \(got 30 x 40\)"):
        load_images(photos, 16)
    Image.new("L", (40, 30)).save(path)
    with pytest.raises(ImageError, match="white where the thing is"):
        load_images(photos, 16)
    edge = Image.new("L", (40, 30))
    edge.paste(255, (0, 0, 5, 30))
    edge.save(path)
    with pytest.raises(ImageError, match="middle square"):
        load_images(photos, 16)
    labels = Image.new("P", (40, 30))
    labels.putpalette([0, 0, 0, 128, 0, 0])
    labels.paste(1, (10, 5, 30, 25))
    labels.save(path)
    with pytest.raises(ImageError, match=r"masklabel.* is in colours, but must be white"):
        load_images(photos, 16)
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="not an image"):
        load_images(photos, 16)
    assert load_images(photos, 16, masks=False).names == ("0.png", "1.png", "2.png", "3.png")


def test_a_speck_of_colour_makes_no_picture_of_a_mask(tmp_path: Path) -> None:
    mask = Image.new("RGB", (100, 100))
    mask.paste((255, 255, 255), (20, 20, 80, 80))
    mask.paste((200, 0, 0), (0, 0, 9, 9))
    mask.save(path := tmp_path / "mask.png")
    assert read_scaled_mask(path, (100, 100)).getpixel((50, 50)) == 255
    mask.paste((200, 0, 0), (0, 0, 20, 9))
    mask.save(path)
    with pytest.raises(ImageError, match="in colours"):
        read_scaled_mask(path, (100, 100))


def half(count: int) -> torch.Tensor:
    """Masks of the left half, but of the first image a soft one of everything."""
    masks = torch.zeros(count, 1, 16, 16)
    masks[..., :8] = 1
    masks[0] = torch.linspace(0.2, 0.8, 16)
    return masks


def test_a_masked_loss_is_the_weighted_mean(model: StableDiffusion, images: torch.Tensor) -> None:
    """And the Gram matrix is that of the same weighted residuals."""
    masks = half(len(images))
    objective, population = denoising(model, images, masks=masks, chunk=100), words(3)
    found = objective.evaluate(population, 2, gram=True)
    draws = objective._draw(2, "draws", 6)
    residuals = objective.residuals(population, draws).double()
    small = F.interpolate(masks.double(), (8, 8), mode="area")[draws.image]
    expected = (residuals.square() * small).sum((2, 3, 4)) / (4 * small.sum((1, 2, 3)))
    np.testing.assert_allclose(found.losses, expected.mean(1), rtol=1e-6)
    assert found.gram is not None
    assert found.gram[0, 0] == pytest.approx(found.losses[0], rel=1e-6)
    rebuilt = found.gram[0, 0] + 2 * found.gram[0, 1:] + np.diag(found.gram)[1:]
    np.testing.assert_allclose(rebuilt, found.losses[1:], rtol=1e-6)


def test_masks_keep_the_scale_of_a_relative_loss(
    model: StableDiffusion, images: torch.Tensor
) -> None:
    options = {"weighting": "relative", "validation_draws": 40}
    masked = denoising(model, images, masks=half(len(images)), **options)
    empty = masked._predict(model.condition([""]), masked._validation, 1)[0].double()
    errors = (empty * masked._scales(masked._validation)).square().mean((1, 2, 3))
    assert float(errors.log().mean()) == pytest.approx(0, abs=1e-6)


def test_masks_of_everything_and_no_captions_change_no_bit(
    model: StableDiffusion, images: torch.Tensor
) -> None:
    plain, population = denoising(model, images, weighting="relative"), words(3)
    masks = torch.ones(len(images), 1, 16, 16)
    whole = denoising(model, images, weighting="relative", masks=masks, captions=[""] * 4)
    for one, other in ((plain, whole), (whole, plain)):
        a, b = one.evaluate(population, 1, True), other.evaluate(population, 1, True)
        assert a.gram is not None and b.gram is not None
        assert (a.losses == b.losses).all() and (a.gram == b.gram).all()


@pytest.mark.parametrize(
    ("caption", "kind", "sentence"),
    [
        ("a <disc> on grass", "object", "a <disc> on grass"),
        ("on grass", "object", "a photo of a <disc>, on grass"),
        ("the x<disc>_2", "object", "a photo of a <disc>, the x<disc>_2"),
        ("{} and {0}", "object", "a photo of a <disc>, {} and {0}"),
        ("a cat", "style", "a cat in the style of <disc>"),
        ("{} and {0}", "style", "{} and {0} in the style of <disc>"),
        ("{a} <disc> {}", "style", "{a} <disc> {}"),
        ("", "object", ""),
    ],
)
def test_a_caption_is_the_sentence_as_it_is_or_joined_to_the_word(
    caption: str, kind: str, sentence: str
) -> None:
    assert KINDS[kind].template(caption, "<disc>").format("<disc>") == sentence


def test_draws_of_a_picture_have_its_caption(model: StableDiffusion, images: torch.Tensor) -> None:
    captions = ["", "a {} on the beach", "", "a red {}"]
    plain = denoising(model, images, draws=12)._draw(3, "draws", 12)
    drawn = denoising(model, images, draws=12, captions=captions)._draw(3, "draws", 12)
    before = {float(t): i for i, t in enumerate(plain.t)}
    assert (drawn.sentence.diff() >= 0).all()
    for i, t in enumerate(drawn.t.tolist()):
        j = before[t]  # the same draw, at another place
        assert drawn.image[i] == plain.image[j] and torch.equal(drawn.noise[i], plain.noise[j])
        own = captions[int(drawn.image[i])]
        assert drawn.sentences[drawn.sentence[i]] == (own or plain.sentences[plain.sentence[j]])
    assert set(drawn.sentence.tolist()) == set(range(len(drawn.sentences)))


def test_a_caption_may_be_a_sentence_that_is_drawn_anyway() -> None:
    drawn = draw(0, 1, "draws", 12, torch.zeros(2, 1, 1, 1), ("a {}", "one {}"), (0.0, 1.0), 2)
    for caption in drawn.sentences:
        found = captioned(drawn, [caption, ""])
        assert {found.sentences[i] for i in found.sentence[found.image == 0]} == {caption}
        assert len(found.sentence[found.image == 1].unique()) == 2


@pytest.mark.parametrize("count", [8, 20])
def test_pictures_without_a_caption_keep_their_sentences(images: torch.Tensor, count: int) -> None:
    templates = KINDS["style"].templates
    assert len(set(templates)) < len(templates)  # the paper's list has two of them twice
    captions = ["", "a cat in the style of {}", "", ""]
    for generation in range(20):
        drawn = draw(0, generation, "draws", 32, images, templates, (0.0, 1.0), count)
        found = captioned(drawn, captions)
        before = {
            float(t): drawn.sentences[i]
            for t, i in zip(drawn.t, drawn.sentence.tolist(), strict=True)
        }
        for t, image, i in zip(found.t, found.image.tolist(), found.sentence.tolist(), strict=True):
            assert found.sentences[i] == (captions[image] or before[float(t)])


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        (b"\xef\xbb\xbfa red disc\r\n", "a red disc"),
        ("\n  ein grüner Kreis \nzweite".encode(), "ein grüner Kreis"),
        (b" \n\n", ""),
        (b"", ""),
    ],
)
def test_captions_are_the_first_line_of_a_file(photos: Path, content: bytes, caption: str) -> None:
    (photos / "1.txt").write_bytes(content)
    found = load_images(photos, 16).annotations.captions
    assert found == (("", caption, "", "") if caption else ())
    (photos / "2.caption").write_text("another")
    assert load_images(photos, 16).annotations.captions == ("", caption, "another", "")
    assert load_images(photos, 16, captions=False).annotations.captions == ()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "on a sofa".encode("utf-16-le")])
def test_a_caption_that_is_no_text_is_refused(photos: Path, content: bytes) -> None:
    (photos / "1.txt").write_bytes(content)
    with pytest.raises(ImageError, match=r"1.txt is no text in UTF-8"):
        load_images(photos, 16)


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
