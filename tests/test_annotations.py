"""Masks and captions beside pictures: read, weighed, kept, and refused if they are of no use."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from evoken.annotations import read_scaled_mask
from evoken.errors import ImageError, shown
from evoken.images import load_images
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.prompts import KINDS
from evoken.textual_inversion.checks import pictures_of
from evoken.textual_inversion.draws import captioned, draw
from evoken.textual_inversion.settings import preset
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


def test_captions_of_no_picture_are_told(photos: Path) -> None:
    for name in ("0.txt", "0.caption", "1.png.txt", "metadata.jsonl"):
        (photos / name).write_text("on a sofa")
    found = load_images(photos, 16)
    assert found.annotations.captions == ("on a sofa", "", "", "")
    assert found.notes(most_cut=1) == [
        "Note: '0.caption', '1.png.txt' and 'metadata.jsonl' are not read: a picture has one "
        "caption, beside it and with its name, such as cat.txt beside cat.png."
    ]
    for changes in ({"captions": False}, {"objective": "similarity", "search": "sep-cma"}):
        settings = preset("default", placeholder="<x>", **changes)
        for images in (photos, found):
            assert not pictures_of(images, 16, settings).notes(most_cut=1)


def test_what_lies_beside_the_folder_of_the_pictures_is_told(photos: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    shutil.move(photos, outer / "cats")
    for name in ("0.txt", "0.mask.png", "plan.psd"):
        (outer / name).write_bytes(b"on a sofa")
    assert load_images(outer, 16).notes(most_cut=1) == [
        f"Taking the pictures from {shown(outer / 'cats')}.",
        "Skipped 'outer/0.mask.png' and 'outer/plan.psd': not images by their names.",
        "Note: 'outer/0.txt' is not read: a picture has one caption, beside it and with its name, "
        "such as cat.txt beside cat.png.",
    ]


@pytest.mark.parametrize("name", ["0.txt", "0.mask.png"])
def test_a_link_that_leads_nowhere_is_no_annotation(photos: Path, name: str) -> None:
    (photos / name).symlink_to("nowhere")
    with pytest.raises(ImageError, match=rf"could not read .*{name}: .* link that leads nowhere"):
        load_images(photos, 16)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "on a sofa".encode("utf-16-le")])
def test_a_caption_that_is_no_text_is_refused(photos: Path, content: bytes) -> None:
    (photos / "1.txt").write_bytes(content)
    with pytest.raises(ImageError, match=r"1.txt is no text in UTF-8"):
        load_images(photos, 16)
