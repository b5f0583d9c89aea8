import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import RATIONAL

from evoken.errors import ImageError
from evoken.images import decode, grid, load_images, to_pictures, to_tensor

PHOTOS = Path(__file__).parents[2] / "shared" / "photos"


def save(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    image.save(path, **options)
    return path


def test_a_folder_is_read_in_order_of_name_and_hashed(photos: Path) -> None:
    (photos / "notes.txt").write_text("not a picture")
    (photos / ".hidden.png").write_text("neither")
    found = load_images(photos, 16)
    assert found.images.shape == (4, 3, 16, 16)
    assert found.names == ("0.png", "1.png", "2.png", "3.png")
    assert found.ignored == ("notes.txt",)
    assert len(set(found.hashes)) == 4
    assert found.images[0, 0].min() == 1 and found.images[0, 1].max() == -1  # red


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.full((20, 24), 100, np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(grey.astype(np.float32))
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr", "F", "LA") else "png"
    path = save(tmp_path, image, f"x.{suffix}")
    found = decode(path.read_bytes(), path)
    assert found.mode == "RGB" and found.size == (24, 20)
    if mode not in ("1", "P", "F"):
        assert abs(int(np.asarray(found).mean()) - 100) <= 2


def test_sixteen_bits_that_use_their_range_keep_their_tones(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 32).astype(np.uint16)[None].repeat(32, 0)
    path = save(tmp_path, Image.fromarray(ramp), "ramp.png")
    found = np.asarray(decode(path.read_bytes(), path))[0, :, 0]
    assert found[0] == 0 and found[-1] == 255 and (np.diff(found.astype(int)) > 0).all()


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    path = save(tmp_path, Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "x.png")
    assert decode(path.read_bytes(), path).getpixel((3, 3)) == (255, 255, 255)


def test_exif_turns_a_picture_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = image.getexif()
    exif[274] = 6  # turn a quarter clockwise to view
    path = save(tmp_path, image, "x.png", exif=exif)
    found = decode(path.read_bytes(), path)
    assert found.size == (20, 40)
    assert found.getpixel((10, 5)) == (255, 255, 255)


def test_the_first_picture_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "blue")]
    path = tmp_path / "x.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert decode(path.read_bytes(), path).getpixel((2, 2)) == (255, 0, 0)


def test_a_very_wide_image_is_cropped_to_its_middle(tmp_path: Path) -> None:
    image = Image.new("RGB", (20_000, 16), "black")
    image.paste("white", (9_990, 0, 10_010, 16))
    save(tmp_path / "f", image, "x.png")
    assert load_images(tmp_path / "f", 16).images.min() > 0.9


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size; its pixels are never reached."""
    buffer = io.BytesIO()
    Image.new("1", (1, 1)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("text.jpg", b"this is no picture", "is not an image"),
        ("empty.png", b"", "is not an image"),
        ("bomb.png", png_of_size(20_000, 20_000), "megapixels"),
        ("large.png", png_of_size(12_000, 11_000), "12000 x 11000"),
        ("dot.png", png_of_size(1, 1), "1 x 1"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=expected) as error:
        load_images(tmp_path, 16)
    assert name in str(error.value)


def test_a_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(buffer, "JPEG")
    (tmp_path / "half.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(ImageError, match="damaged"):
        load_images(tmp_path, 16)


def test_exif_of_the_wrong_kind_is_one_clear_sentence() -> None:
    """The width as a fraction, in a picture that has to be turned."""
    exif = ImageFileDirectory_v2()
    exif[0x0112] = 6
    exif.tagtype[257] = RATIONAL
    exif[257] = 72.0
    header, file = b"Exif\0\0" + b"II*\0\x08\0\0\0" + exif.tobytes(8), io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "JPEG", exif=header)
    with pytest.raises(ImageError, match="damaged"):
        decode(file.getvalue(), Path("x.jpg"))


@pytest.mark.parametrize("made", ["missing", "empty", "text"])
def test_no_images(tmp_path: Path, made: str) -> None:
    folder = tmp_path / "f"
    if made != "missing":
        folder.mkdir()
    if made == "text":
        (folder / "a.txt").write_text("a")
    with pytest.raises(ImageError):
        load_images(folder, 16)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_never_crash(content: bytes) -> None:
    with pytest.raises(ImageError):
        decode(content, Path("x.png"))


@given(st.integers(1, 3), st.integers(16, 20), st.integers(0, 2**31))
def test_pictures_and_tensors_are_each_others_inverse(count: int, side: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    images = torch.cat([to_tensor(Image.fromarray(p)) for p in pixels])
    assert images.min() >= -1 and images.max() <= 1
    back = np.stack([np.asarray(p) for p in to_pictures(images)])
    assert (back == pixels).all()


def test_a_grid_keeps_every_picture_whole() -> None:
    pictures = [Image.new("RGB", (4, 4), c) for c in ("red", "lime", "blue")]
    sheet = grid(pictures, 2, gap=1, scale=2)
    assert sheet.size == (17, 17)
    assert sheet.getpixel((0, 0)) == (255, 0, 0)
    assert sheet.getpixel((16, 0)) == (0, 255, 0)
    assert sheet.getpixel((0, 16)) == (0, 0, 255)


def test_real_photographs_are_read() -> None:
    if not PHOTOS.exists():
        pytest.skip("the photographs are not beside this clone")
    for folder in sorted(p for p in PHOTOS.iterdir() if p.is_dir()):
        assert 3 <= len(load_images(folder, 64).images) <= 5
