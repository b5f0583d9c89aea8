import errno
import io
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import RATIONAL

from evoken.decoding import decode, read
from evoken.errors import ImageError
from evoken.images import grid, load_images, to_pictures, to_tensor
from tests.commands import evoken, refused

PHOTOS = Path(__file__).parents[2] / "shared" / "photos"


def save(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    image.save(path, **options)
    return path


def test_a_folder_is_read_in_order_of_name_and_hashed(photos: Path) -> None:
    for name in ("notes.doc", ".hidden.png", "0.txt", "0.json", "Thumbs.db", "0.npz", ".DS_Store"):
        (photos / name).write_text("not a picture")
    found = load_images(photos, 16)
    assert found.images.shape == (4, 3, 16, 16)
    assert found.names == ("0.png", "1.png", "2.png", "3.png")
    assert found.ignored == ("notes.doc",)
    assert len(set(found.hashes)) == 4
    assert found.images[0, 0].min() == 1 and found.images[0, 1].max() == -1  # red


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F", "LAB"]
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.full((20, 24), 100, np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(grey.astype(np.float32))
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr", "F", "LA", "LAB") else "png"
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


def tiff(values: np.ndarray) -> bytes:
    """A TIFF of any type of numbers, as instruments write it."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb" if values.ndim == 3 else "minisblack")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "white"),
    [
        ("float32", 1),
        ("float32", 255),
        ("float32", 65535),
        ("uint16", 255),
        ("uint16", 65535),
        ("int16", 32767),
        ("uint32", 65535),
        ("uint32", 2**32 - 1),
        ("int32", 2**31 - 1),
    ],
)
def test_numbers_of_every_type_keep_their_tones(kind: str, white: int) -> None:
    """A ramp to white, and one to half of it: not scaled up."""
    ramp = np.linspace(0, white, 32)[None].repeat(32, 0)
    for share in (1, 0.5):
        found = np.asarray(decode(tiff((ramp * share).astype(kind)), Path("x.tif")))[0, :, 0]
        expected = np.linspace(0, 255, 32) * share
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    ("kind", "brightest"),
    [("uint16", 4095), ("int32", 100_000), ("float32", 1.02), ("float32", 0.01)],
)
def test_numbers_that_would_be_black_are_scaled_to_white(kind: str, brightest: float) -> None:
    """12 bits in 16, floats a little over 1."""
    ramp = np.linspace(0, brightest, 32)[None].repeat(32, 0).astype(kind)
    found = np.asarray(decode(tiff(ramp), Path("x.tif")))[0, :, 0]
    assert np.abs(found - np.linspace(0, 255, 32)).max() <= 1


@pytest.mark.parametrize(
    ("bad", "word"),
    [(np.nan, "no number"), (np.inf, "no number"), (-np.inf, "no number"), (-1, "negative")],
)
def test_numbers_that_are_no_brightness_are_refused(bad: float, word: str) -> None:
    values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    values[3, 4] = bad
    with pytest.raises(ImageError, match=word):
        decode(tiff(values), Path("x.tif"))


def test_a_tiff_that_nobody_reads_is_no_damaged_file() -> None:
    values = np.zeros((20, 20, 3), np.float64)
    with pytest.raises(ImageError, match="TIFF of a kind"):
        decode(tiff(values), Path("x.tif"))


def on_transparency(*colours: tuple[int, int, int]) -> Image.Image:
    """Stripes of colours in the middle of a transparent picture."""
    image = Image.new("RGBA", (60, 60), (90, 90, 90, 0))
    width = 30 // len(colours)
    for i, colour in enumerate(colours):
        image.paste((*colour, 255), (15 + i * width, 15, 15 + (i + 1) * width, 45))
    return image


WHITE, GREY, BLACK, RED = (255, 255, 255), (128, 128, 128), (0, 0, 0), (200, 0, 0)


@pytest.mark.parametrize(
    ("colours", "ground"),
    [
        ((RED,), WHITE),
        ((BLACK,), WHITE),
        ((GREY,), WHITE),
        ((WHITE,), GREY),
        (((250, 252, 255),), GREY),
        ((WHITE, BLACK), GREY),
        ((WHITE, GREY), BLACK),
        ((WHITE, RED, RED), GREY),
    ],
)
@pytest.mark.parametrize("end", ["png", "webp", "tif", "tga", "ico"])
def test_transparency_is_laid_on_what_differs_from_the_thing(
    tmp_path: Path,
    colours: tuple[tuple[int, int, int], ...],
    ground: tuple[int, int, int],
    end: str,
) -> None:
    options = {"lossless": True} if end == "webp" else {}
    path = save(tmp_path, on_transparency(*colours), f"x.{end}", **options)
    found = decode(path.read_bytes(), path)
    assert found.getpixel((3, 3)) == ground
    assert found.getpixel((found.width * 3 // 10, found.height // 2)) == colours[0]


def test_a_white_thing_on_a_palette_is_seen(tmp_path: Path) -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([9, 9, 9, 255, 255, 255])
    image.paste(1, (10, 10, 30, 30))
    path = save(tmp_path, image, "x.gif", transparency=0)
    found = decode(path.read_bytes(), path)
    assert found.getpixel((20, 20)) == WHITE and found.getpixel((2, 2)) == GREY


def test_what_is_wholly_transparent_is_white(tmp_path: Path) -> None:
    path = save(tmp_path, Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "x.png")
    assert decode(path.read_bytes(), path).getpixel((3, 3)) == WHITE
    assert load_images(path, 16).blank == ("x.png",)


@given(st.integers(0, 2**31))
def test_an_opaque_picture_keeps_every_byte(seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 17, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    found = np.asarray(decode(buffer.getvalue(), Path("x.png")))
    assert (found == pixels[..., :3]).all()


def test_notes_name_copies_and_what_is_cut(tmp_path: Path) -> None:
    sizes = {"a.png": (40, 40), "b.png": (100, 50), "c.png": (30, 40), "d.png": (1000, 999)}
    for name, size in sizes.items():
        save(tmp_path / "f", Image.radial_gradient("L").resize(size), name)
    for name in ("e.png", "f.png"):
        (tmp_path / "f" / name).write_bytes((tmp_path / "f" / "a.png").read_bytes())
    cuts = "Note: pictures are cut to their middle square: 'b.png' loses 50 % (left and right)"
    same = "Note: 'a.png', 'e.png' and 'f.png' are the same picture."
    found = load_images(tmp_path / "f", 16)
    assert found.notes() == [same, f"{cuts}, 'c.png' loses 25 % (above and below)."]
    assert found.notes(1 / 3) == [same, f"{cuts}."]
    assert found.blank == ()


def test_a_phone_s_picture_is_cut_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    lying = Image.radial_gradient("L").resize((80, 40))
    path = save(tmp_path, lying, "x.jpg", exif=exif)
    assert load_images(path, 16).notes()[0].endswith("'x.jpg' loses 50 % (above and below).")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.avif", {"quality": 95}),
        ("x.jfif", {"format": "JPEG"}),
        ("x.jpe", {"format": "JPEG"}),
        ("x.mpo", {"save_all": True}),
        ("x.webp", {}),
        ("x.tga", {}),
        ("x.ppm", {}),
        ("x.pgm", {}),
        ("x.pnm", {}),
        ("x.jp2", {}),
        ("x.ico", {}),
        ("x.bmp", {}),
        ("x.dib", {}),
        ("x.pcx", {}),
        ("x.qoi", {}),
        ("x.apng", {"format": "PNG"}),
        ("X.PNG", {}),
        ("X.Tiff", {}),
        ("X.AVIF", {"quality": 95}),
    ],
)
def test_every_usual_format_is_read(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    image = Image.linear_gradient("L").resize((64, 64))
    image = image if name == "x.pgm" else image.convert("RGB")
    if name == "x.mpo":  # as stereo cameras write it
        options = options | {"append_images": [image.rotate(180)]}
    save(tmp_path / "f", image, name, **options)
    found = load_images(tmp_path / "f", 64)
    assert found.names == (name,) and found.ignored == ()
    expected = to_tensor(image.convert("RGB"))
    assert (found.images - expected).abs().max() < 0.1


@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.jpg"])
def test_a_file_that_is_named_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, Image.radial_gradient("L"), name, format="PNG")
    assert load_images(path, 16).names == (name,)


def heic_header() -> bytes:
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "IMG_1.jpg"])
def test_heic_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(heic_header())
    with pytest.raises(ImageError, match=r"HEIC.*pip install 'evoken\[heic\]'"):
        load_images(tmp_path, 16)


def test_heic_is_read_with_its_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    image = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    heif.from_pillow(image).save(tmp_path / "IMG_1.HEIC", quality=95)
    found = load_images(tmp_path, 64)
    assert (found.images - to_tensor(image)).abs().max() < 0.1
    (tmp_path / "IMG_1.HEIC").write_bytes(heic_header())
    with pytest.raises(ImageError, match="damaged"):
        load_images(tmp_path, 64)


@pytest.mark.parametrize("kind", ["text", "compressed", "international", "much"])
def test_a_png_with_a_long_text_is_read(tmp_path: Path, kind: str) -> None:
    """Programs that draw write their whole workflow into it."""
    texts, image = PngInfo(), Image.radial_gradient("L").resize((40, 40))
    if kind == "international":
        texts.add_itxt("workflow", "x" * 3_000_000, zip=True)
    for i in range({"international": 0, "much": 80}.get(kind, 1)):
        texts.add_text(
            f"workflow{i}", "x" * 1_000_000 * (1 if kind == "much" else 3), kind != "text"
        )
    exif = image.getexif()
    exif[274] = 3
    path = save(tmp_path, image, "x.png", pnginfo=texts, exif=exif)
    found = decode(path.read_bytes(), path)
    assert (np.asarray(found)[..., 0] == np.asarray(image)[::-1, ::-1]).all()
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match="damaged"):
        decode(path.read_bytes(), path)


def test_a_postscript_file_is_not_run(tmp_path: Path) -> None:
    path = save(tmp_path, Image.radial_gradient("L"), "x.png", format="EPS")
    with pytest.raises(ImageError, match="not an image"):
        decode(path.read_bytes(), path)


def test_folders_of_pictures_beside_pictures_are_named(photos: Path) -> None:
    assert load_images(photos, 16).notes(1.0) == []
    for name in ("dog", "empty", "otter"):
        (photos / name).mkdir()
    shutil.copy(photos / "0.png", photos / "otter")
    one = "Note: the folder 'otter' in it has pictures, too, which are not read."
    assert load_images(photos, 16).notes(1.0) == [one]
    shutil.copy(photos / "0.png", photos / "dog")
    two = "Note: the folders 'dog' and 'otter' in it have pictures, too, which are not read."
    assert load_images(photos, 16).notes(1.0) == [two]
    assert load_images(photos / "0.png", 16).notes(1.0) == []


def test_images_may_be_one_folder_down(photos: Path) -> None:
    inner = photos / "train" / "10_sks disc"
    inner.parent.mkdir()
    photos.joinpath("train", "log").mkdir()
    photos.joinpath("train", ".thumbs").mkdir()
    Image.radial_gradient("L").save(photos / "train" / ".thumbs" / "0.png")
    inner.mkdir()
    for i in range(4):
        (photos / f"{i}.png").rename(inner / f"{i}.png")
        (inner / f"{i}.txt").write_text("sks disc")
    found = load_images(photos / "train", 16)
    assert found.names == ("0.png", "1.png", "2.png", "3.png")
    assert found.folder == inner and found.ignored == ()
    with pytest.raises(ImageError, match="found no image"):
        load_images(photos, 16)  # they are two folders down
    (photos / "train" / "reg").mkdir()
    (inner / "0.png").rename(photos / "train" / "reg" / "0.png")
    with pytest.raises(ImageError, match="more than one folder: '10_sks disc' and 'reg'"):
        load_images(photos / "train", 16)
    Image.radial_gradient("L").save(photos / "train" / "9.png")
    assert load_images(photos / "train", 16).names == ("9.png",)


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


@pytest.mark.parametrize("target", ["nowhere.png", "link.png"])
def test_a_link_to_no_picture_is_not_passed_over(tmp_path: Path, target: str) -> None:
    Image.effect_noise((40, 40), 50).convert("RGB").save(tmp_path / "there.png")
    (tmp_path / "link.png").symlink_to(target)
    with pytest.raises(ImageError, match=r"could not read .*link\.png"):
        load_images(tmp_path, 16)


def test_a_link_to_itself_is_a_sentence(own_folder: None) -> None:
    Path("loop").symlink_to("loop")
    for command in (
        ("learn", "loop"),
        ("invert", "loop", "--prompt", "a"),
        ("edit", "loop", "--from", "a", "--to", "b"),
        ("evaluate", "loop"),
        ("compare", "loop", "loop"),
        ("inspect", "loop"),
        ("generate", "a", "--model", "loop"),
    ):
        refused(evoken(*command))


def test_a_file_that_nobody_may_look_at_is_told() -> None:
    with pytest.raises(ImageError, match="could not read x"):
        read(Path("x" * 300))


def test_a_folder_that_may_not_be_listed_is_no_misspelt_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:  # root may list any
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ImageError, match=r"permission denied\. Check the permissions there"):
        load_images(tmp_path, 16)
