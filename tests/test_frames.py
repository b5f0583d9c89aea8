"""Pictures of any shape before a model that sees squares, and back in their originals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage.metrics import structural_similarity

from evoken.annotations import read_scaled_mask
from evoken.decoding import Decoded, decode_whole
from evoken.flowopt.compare import measures
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.suggestion import Scorer
from evoken.images import png, square, to_pictures, to_tensor
from evoken.models.clip import Clip
from evoken.pictures.frame import feathered, frame_of, mixed, newness, put_back
from tests.commands import evoken

pytestmark = pytest.mark.usefixtures("own_folder")
SIDES = st.integers(16, 90)


def grain(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture in which no pixel is like another."""
    channels = len(mode)
    levels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(levels)


@given(SIDES, SIDES, st.sampled_from(["whole", "middle"]))
def test_a_frame_is_a_square_with_the_picture_in_it(width: int, height: int, what: str) -> None:
    frame = frame_of(what, (width, height), 32)
    view = frame.view(grain(width, height))
    assert view.size == (32, 32)
    left, top, right, bottom = frame.place
    assert float(frame.seen.sum()) == (right - left) * (bottom - top)
    assert (
        frame.back(to_tensor(view)).shape[-2:]
        == frame.share[frame.share > 0].reshape(frame.box[3] - frame.box[1], -1).shape
    )
    if what == "whole":
        assert frame.share.all() and max(right - left, bottom - top) == 32
        scale = 32 / max(width, height)  # to the nearest pixel
        assert right - left == pytest.approx(width * scale, abs=0.51)
        assert bottom - top == pytest.approx(height * scale, abs=0.51)
    else:
        assert frame.place == (0, 0, 32, 32) and frame.share.sum() == min(width, height) ** 2


def test_a_square_picture_is_seen_as_ever() -> None:
    picture = grain(50, 50)
    for what in ("whole", "middle"):
        assert frame_of(what, picture.size, 32).view(picture) == square(picture, 32)


def test_the_rest_of_the_square_is_the_edge_drawn_out() -> None:
    picture = Image.new("RGB", (64, 32), "blue")
    picture.paste("red", (0, 0, 64, 16))
    view = np.asarray(frame_of("whole", picture.size, 32).view(picture))
    assert (view[0] == view[8]).all() and (view[0, 0] == (255, 0, 0)).all()
    assert (view[31] == view[23]).all() and (view[31, 0] == (0, 0, 255)).all()


def test_black_that_a_file_made_a_little_brighter_is_black(tmp_path: Path) -> None:
    """In a JPEG, or in a mask of another size than the picture."""
    mask = Image.new("L", (64, 48), 2)
    mask.paste(255, (16, 16, 32, 32))
    mask.save(tmp_path / "mask.png")
    for size in ((64, 48), (128, 96)):
        levels = np.asarray(read_scaled_mask(tmp_path / "mask.png", size))
        assert levels[0, 0] == 0 and levels[-1, -1] == 0 and levels.max() == 255


def test_a_square_around_a_mask_keeps_within_the_picture() -> None:
    mask = Image.new("L", (100, 60))
    mask.paste(255, (80, 20, 100, 40))
    frame = frame_of("mask", mask.size, 32, mask)
    assert frame.box == (70, 15, 100, 45)  # half as large again as the mask
    mask.paste(255, (0, 0, 100, 10))
    assert frame_of("mask", mask.size, 32, mask).box == (0, 0, 100, 60)


@given(SIDES, SIDES, st.sampled_from(["whole", "middle"]), st.sampled_from(["RGB", "RGBA"]))
def test_where_the_mask_is_black_every_pixel_stays(
    width: int, height: int, what: str, mode: str
) -> None:
    picture = grain(width, height, mode)
    original = decode_whole(png(picture), Path("a.png"))
    frame = frame_of(what, picture.size, 32)
    mask = np.zeros((height, width), dtype=np.float32)
    mask[height // 2 :] = frame.share[height // 2 :]
    drawn, rebuilt = torch.ones(1, 3, 32, 32), -torch.ones(1, 3, 32, 32)
    made = np.asarray(put_back(original, frame, drawn, rebuilt, feathered(mask)))
    assert made.shape == (height, width, len(mode))
    assert (made[mask == 0] == np.asarray(picture)[mask == 0]).all()
    assert (made[mask == 1] == 255).all(1).any()  # white and opaque


def test_where_nothing_was_drawn_the_original_keeps_its_own_detail() -> None:
    """What the autoencoder loses is no change."""
    picture = grain(64, 48)
    original = Decoded(picture, picture)
    frame = frame_of("whole", picture.size, 32)
    rebuilt = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    share = np.ones((48, 64), dtype=np.float32)
    assert put_back(original, frame, rebuilt, rebuilt, share) == picture
    replaced = put_back(original, frame, rebuilt, rebuilt, share, detail=False)
    assert replaced == to_pictures(frame.back(rebuilt))[0]


def test_a_change_takes_the_place_of_what_was_there() -> None:
    before, rebuilt = torch.rand(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    drawn = rebuilt.clone()
    drawn[..., 8:] = 0.9
    made = mixed(before, drawn, rebuilt, newness(drawn, rebuilt), torch.ones(1, 1, 16, 16))
    torch.testing.assert_close(made[..., 10:], drawn[..., 10:], atol=1e-3, rtol=0)
    torch.testing.assert_close(made[..., :6], before[..., :6], atol=1e-3, rtol=0)


@given(st.integers(0, 2**31))
def test_a_feathered_mask_is_no_more_than_the_mask_and_0_where_it_is(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random((20, 30), dtype=np.float32)
    mask[random.random((20, 30)) < 0.5] = 0
    soft = feathered(mask)
    assert (soft <= mask).all() and ((soft == 0) == (mask == 0)).all()
    assert (feathered(np.ones_like(mask)) == 1).all()


def test_an_edge_is_feathered_over_several_pixels() -> None:
    mask = np.zeros((256, 256), dtype=np.float32)
    mask[:, 128:] = 1
    row = feathered(mask)[0, 126:136]
    np.testing.assert_allclose(row, [0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


def test_an_edge_is_feathered_by_what_the_model_sees() -> None:
    """Else a small thing in a large picture, looked at closely, would nearly stay as it is."""
    mask = np.zeros((1024, 1024), dtype=np.float32)
    mask[500:510, 500:510] = 1
    frame = frame_of("mask", mask.shape[::-1], 64, Image.fromarray((mask * 255).astype(np.uint8)))
    assert frame.longer == 15 and feathered(mask).max() < 0.5
    assert feathered(mask, frame.longer).max() == 1


def test_what_is_next_to_black_is_not_framed() -> None:
    mask = Image.new("L", (100, 100), 1)
    mask.paste(255, (40, 40, 60, 60))
    assert frame_of("mask", mask.size, 32, mask).box == (35, 35, 65, 65)


@pytest.mark.parametrize("size", [(300, 200), (1000, 40), (64, 64)])
def test_what_a_picture_is_drawn_out_with_is_in_no_measure(size: tuple[int, int]) -> None:
    seen = frame_of("whole", size, 64).seen
    random = torch.Generator().manual_seed(0)
    source, change = (torch.rand(1, 3, 64, 64, generator=random) - 0.5 for _ in range(2))
    part = (seen > 0).expand_as(source)
    inside = torch.where(part, source + change / 2, source)
    rmse, psnr, ssim = measures(source, inside, seen)
    assert float(rmse) == pytest.approx(127.5 * float((change[part] / 2).square().mean().sqrt()))
    assert float(psnr) == pytest.approx(20 * float((255 / rmse).log10()))
    if part.all():
        assert [float(x) for x in measures(source, inside)] == [
            float(rmse),
            float(psnr),
            float(ssim),
        ]
        both = (x[0].numpy() for x in (source, inside))
        about = {"channel_axis": 0, "data_range": 2.0, "gaussian_weights": True, "sigma": 1.5}
        expected = structural_similarity(*both, use_sample_covariance=False, **about)
        assert float(ssim) == pytest.approx(expected, abs=1e-6)
    else:
        assert float(rmse) > 1.2 * float(measures(source, inside)[0])
        assert float(ssim) < float(measures(source, inside)[2])
    beyond = torch.where(part, source, source + change)
    assert float(measures(source, beyond, seen)[0]) == 0


def test_clip_does_not_see_what_a_picture_is_drawn_out_with(
    clip: Clip, images: torch.Tensor
) -> None:
    seen = frame_of("whole", (16, 12), 16).seen.expand(4, -1, -1, -1)
    beyond = torch.where(seen > 0, images, -images)
    texts = ["a cat"] * 4, ["a dog"] * 4
    for masks in (None, torch.ones_like(seen)):
        scores = Scorer(clip, images, masks, *texts, seen=seen)(beyond)
        assert scores.gain.abs().max() == 0
    everything = Scorer(clip, images, None, *texts)(beyond)
    assert everything.gain.abs().max() > 0


# From the command line.


def edited(tiny_folder: Path, picture: str, *arguments: object) -> FlowOptRun:
    model = ("--model", tiny_folder / "flow", "--clip", tiny_folder / "clip", "--steps", 4)
    few = ("--strength", "4:3", "--output", "run")
    result = evoken("edit", picture, "--from", "a cat", "--to", "a dog", *model, *few, *arguments)
    assert result.exit_code == 0, result.output
    return FlowOptRun.open("run")


def test_size_transparency_and_what_a_camera_wrote_stay(tiny_folder: Path) -> None:
    picture = grain(60, 40, "RGBA")
    exif = Image.Exif()
    exif[0x010F], exif[0x9286] = "a camera", "a comment"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save("cut.png", exif=exif, icc_profile=profile)
    mask = Image.new("L", (60, 40))
    mask.paste(255, (30, 0, 60, 40))
    mask.save("mask.png")
    run = edited(tiny_folder, "cut.png", "--mask", "mask.png")
    [file] = run.pick(0)
    with Image.open(file) as made:
        assert made.size == (60, 40) and made.mode == "RGBA"
        assert made.info["icc_profile"] == profile
        assert made.getexif()[0x010F] == "a camera"
        found, given_ = np.asarray(made), np.asarray(picture)
    assert (found[:, :30] == given_[:, :30]).all() and (found[:, 31:] != given_[:, 31:]).any()
    assert (found[..., 3] >= given_[..., 3]).all()  # what is new can be seen


def test_a_picture_that_was_held_upright_is_given_back_upright(tiny_folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    grain(60, 40).save("held.jpg", exif=exif)
    with Image.open(edited(tiny_folder, "held.jpg").picture(0, 0)) as made:
        assert made.size == (40, 60) and 0x0112 not in made.getexif()


@pytest.mark.parametrize(("mode", "name"), [("L", "a.png"), ("P", "a.gif"), ("CMYK", "a.jpg")])
def test_other_kinds_of_pictures_come_back_in_colour(
    tiny_folder: Path, mode: str, name: str
) -> None:
    Image.linear_gradient("L").resize((60, 40)).convert(mode).save(name)
    with Image.open(edited(tiny_folder, name).picture(0, 0)) as made:
        assert made.size == (60, 40) and made.mode == "RGB"


def test_a_wide_picture_is_edited_whole_or_in_part(tiny_folder: Path) -> None:
    grain(90, 30).save("wide.png")
    before = np.asarray(grain(90, 30))
    frames: dict[str, Any] = {}
    for frame in ("whole", "middle"):
        run = edited(tiny_folder, "wide.png", "--frame", frame, "--everywhere")
        with Image.open(run.picture(0, 0)) as made:
            frames[frame] = (np.asarray(made) != before).any(2).any(0)
        run.path.rename(frame)
    assert frames["whole"].all()
    assert (
        frames["middle"][31:59].all() and not frames["middle"][[*range(30), *range(60, 90)]].any()
    )
    mask = Image.new("L", (90, 30))
    mask.paste(255, (2, 10, 12, 20))
    mask.save("mask.png")
    run = edited(tiny_folder, "wide.png", "--frame", "mask", "--mask", "mask.png")
    with Image.open(run.picture(0, 0)) as made:
        changed = (np.asarray(made) != before).any(2)
    assert changed[10:20, 2:12].any() and not changed[:, 13:].any()
    with Image.open(run.path / "inputs/00.png") as seen:
        assert seen.size == (16, 16)
    assert (
        "are of the part of a picture that the model sees" in (run.path / "report.html").read_text()
    )
    told = (Path("whole/report.html"), Path("middle/report.html"))
    assert ["of the part of a picture" in file.read_text() for file in told] == [False, True]
