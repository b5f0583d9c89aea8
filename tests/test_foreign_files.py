"""Files of words as the programs that people have write them: the authors of textual inversion,
A1111 with its pictures, OneTrainer; files under a wrong name, and archives that unpack to too much.
"""

import base64
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from evoken.errors import WordError
from evoken.words.files import read_embedding
from evoken.words.places import MAX_BYTES
from evoken.words.torch_file import _DType, _scalar, unpacked_size
from evoken.words.word import load_word
from tests.commands import evoken, refused
from tests.words import OLD, a1111_dict, pt, same, save, vectors

pytestmark = pytest.mark.usefixtures("own_folder")
L, G, T = (vectors(w, 2) for w in (768, 1280, 4096))


class Attack:
    """Whoever unpickles it makes a folder."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("attacked",)


# The authors of textual inversion, and numbers of numpy.


def authors(**words: Tensor) -> dict[str, Any]:
    return {
        "string_to_token": {name: torch.tensor(265) for name in words},
        "string_to_param": torch.nn.ParameterDict(words),
    }


def test_a_file_of_the_authors_of_textual_inversion() -> None:
    Path("cat.pt").write_bytes(pt(authors(**{"*": L})))
    found = read_embedding("cat.pt")
    assert found.placeholder == "cat" and same(found.vectors, {"clip_l": L})
    for command in (("inspect", "cat.pt"), ("convert", "cat.pt", "--to", "comfyui")):
        assert evoken(*command).exit_code == 0
    assert torch.equal(load_word("embeddings/cat/cat.safetensors").vectors, L)


def test_several_words_of_the_authors_by_name() -> None:
    Path("two.pt").write_bytes(pt(authors(cat=L, dog=L + 1)))
    word = load_word("two.pt#dog")
    assert word.placeholder == "dog" and torch.equal(word.vectors, L + 1)
    with pytest.raises(WordError, match=r"no word called 'cow'.*'cat', 'dog'"):
        load_word("two.pt#cow")
    with pytest.raises(WordError, match=r"two\.pt"):
        load_word("two.pt")


def test_a_parameter_dict_of_before_torch_1_12() -> None:
    """It had no list of its keys."""
    content = authors(**{"*": L})
    del content["string_to_param"].__dict__["_keys"]
    Path("cat.pt").write_bytes(pt(content))
    assert torch.equal(load_word("cat.pt").vectors, L)


@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_numbers_of_numpy_beside_the_vectors(core: str) -> None:
    more = {
        "step": np.int64(-5),
        "sd_checkpoint": np.str_("aé"),
        "sd_checkpoint_name": np.bool_(True),
        "loss": np.float32(0.5),
        "when": np.datetime64("2022-10-01"),
        "curve": np.arange(3.0),
    }
    content, new = io.BytesIO(), zipfile.ZipFile(io.BytesIO(pt(a1111_dict(L) | more)))
    with new, zipfile.ZipFile(content, "w") as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b"numpy._core", core.encode()))
    Path("cat.pt").write_bytes(content.getvalue())
    found = read_embedding("cat.pt")
    assert same(found.vectors, {"clip_l": L})
    assert found.about == {"step": "-5", "sd_checkpoint": "aé", "sd_checkpoint_name": "True"}


def test_a_model_is_refused_by_the_number_of_its_entries() -> None:
    for count, said in ((64, r"\(got 64 entries"), (65, "has 65 entries, but .* at most 64")):
        Path("x.safetensors").write_bytes(save({f"layer.{i}": L for i in range(count)}))
        with pytest.raises(WordError, match=said):
            load_word("x.safetensors")


def test_of_a_damaged_file_the_loaders_reason_is_said_and_not_its_advice() -> None:
    whole = pt({"<cat>": L}, **OLD)
    Path("x.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WordError, match=r"tensors alone\): \w[^:.]+\. Check that"):
        load_word("x.pt")


@pytest.mark.parametrize("order", "<>")
def test_numbers_of_numpy_from_machines_of_either_byte_order(order: str) -> None:
    for code, number in (("i4", -3), ("f8", 0.1), ("b1", True), ("u2", 258)):
        kind = _DType(code, False, True)
        kind.__setstate__(np.dtype(f"{order}{code}").__reduce__()[2])
        data = np.array(number, f"{order}{code}").tobytes()
        assert _scalar(kind, data) == number
    kind = _DType("U2", False, True)
    kind.__setstate__((3, order, None, None, None, 8, 4, 8))
    assert _scalar(kind, np.array("aé", f"{order}U2").tobytes()) == "aé"


def test_numbers_of_numpy_are_no_vectors() -> None:
    Path("cat.pt").write_bytes(pt({"string_to_param": {"*": np.ones((1, 768), np.float32)}}))
    with pytest.raises(WordError, match="must be real numbers"):
        load_word("cat.pt")


HOSTILE: dict[str, Callable[[], dict[str, Any]]] = {
    "beside": lambda: authors(**{"*": L}) | {"more": Attack()},
    "as the number of a token": lambda: authors(**{"*": L}) | {"string_to_token": Attack()},
    "as the vectors": lambda: a1111_dict(L) | {"string_to_param": {"*": Attack()}},
    "beside a number": lambda: a1111_dict(L) | {"step": [np.int64(1), Attack()]},
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("name", ["cat.pt", "cat.safetensors", "learned_embeds.bin"])
def test_what_would_run_is_named_and_not_run(case: str, name: str) -> None:
    Path(name).write_bytes(pt(HOSTILE[case]()))
    for command in (("inspect", name), ("convert", name, "--to", "pt")):
        refused(evoken(*command), "nothing is ever run", "mkdir")
    assert sorted(Path().iterdir()) == [Path(name)]


def test_stand_ins_are_gone_when_a_file_is_read() -> None:
    before = set(torch.serialization.get_safe_globals())
    Path("cat.pt").write_bytes(pt(authors(**{"*": L})))
    load_word("cat.pt")
    assert set(torch.serialization.get_safe_globals()) == before


# Names and sizes that deceive.


@pytest.mark.parametrize("name", ["cat.safetensors", "cat.pt", "cat.bin", "cat.png", "cat"])
@pytest.mark.parametrize("kind", ["safetensors", "pt", "old", "picture"])
def test_a_file_is_what_it_contains(name: str, kind: str) -> None:
    content = {
        "safetensors": save({"<cat>": L}),
        "pt": pt({"<cat>": L}),
        "old": pt({"<cat>": L}, **OLD),
        "picture": picture(texts=True),
    }[kind]
    Path(name).write_bytes(content)
    assert torch.equal(load_word(name).vectors, L)


@pytest.mark.parametrize("name", ["learned_embeds.safetensors", "learned_embeds.bin"])
def test_the_file_of_a_folder_is_what_it_contains(name: str) -> None:
    for content in (save({"<cat>": L}), pt({"<cat>": L})):
        Path(name).write_bytes(content)
        assert torch.equal(load_word(".").vectors, L)


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    with zipfile.ZipFile("bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"")
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(MAX_BYTES // 2**24 + 1):
                member.write(bytes(2**24))
    assert Path("bomb.pt").stat().st_size < 2**22 < MAX_BYTES < unpacked_size(Path("bomb.pt"))
    refused(evoken("inspect", "bomb.pt"), "bomb.pt has 1,040 MB", "at most 1,024 MB")


def test_an_archive_whose_vectors_were_changed_is_damaged() -> None:
    whole = pt({"<cat>": L})
    at = whole.index(L.numpy().tobytes())
    Path("cat.pt").write_bytes(whole[:at] + bytes(8) + whole[at + 8 :])
    refused(evoken("inspect", "cat.pt"), "cat.pt is damaged", "checksum")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_file_at_all_is_called_by_its_name(content: bytes, what: str) -> None:
    Path("learned_embeds.bin").write_bytes(content)
    refused(evoken("inspect", "learned_embeds.bin"), what)


# A1111's pictures. It writes the word twice: as a text, and beside the picture proper into pixels.


def in_json(one: Tensor) -> bytes:
    content = a1111_dict(one)
    content["string_to_param"] = {"*": {"TORCHTENSOR": one.tolist()}}
    return json.dumps(content).encode()


def with_pixels(content: bytes, height: int = 64) -> Image.Image:
    """A picture with this in its pixels, as A1111 paints it."""
    packed = np.frombuffer(zlib.compress(content, 9), np.uint8)
    columns = -(-len(packed) // (3 * height))
    packed = np.resize(packed, (height, columns, 3))
    number, mask = 0, []
    for _ in range(packed.size):
        number = (1664525 * number + 1013904223) % 2**32
        mask.append(number % 255 & 15)
    hidden = np.array(mask, np.uint8).reshape(packed.shape)
    decoration = np.full_like(packed, 16 * 9)
    photo = Image.effect_mandelbrot((80, height), (-2, -1, 1, 1), 50).convert("RGB")
    whole = Image.new("RGB", (2 * columns + 82, height))
    whole.paste(Image.fromarray((packed & 15 ^ hidden) | decoration), (0, 0))
    whole.paste(photo, (columns + 1, 0))
    whole.paste(Image.fromarray((packed >> 4 ^ hidden) | decoration), (columns + 82, 0))
    return whole


def picture(texts: bool, pixels: bool = True, kind: str = "PNG", **options: Any) -> bytes:
    image = with_pixels(in_json(L)) if pixels else Image.new("RGB", (64, 64), "red")
    more = PngImagePlugin.PngInfo()
    if texts:
        more.add_text("sd-ti-embedding", base64.b64encode(in_json(L)))
    stream = io.BytesIO()
    image.save(stream, kind, **({"pnginfo": more} if kind == "PNG" else {}), **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        picture(texts=True),
        picture(texts=True, pixels=False),
        picture(texts=False),
        picture(texts=False, kind="WEBP", lossless=True),
    ],
    ids=["both", "text", "pixels", "webp"],
)
def test_a_word_in_a_picture(content: bytes) -> None:
    Path("cat.png").write_bytes(content)
    found = read_embedding("cat.png")
    assert found.placeholder == "<my cat>" and same(found.vectors, {"clip_l": L})
    assert found.about["step"] == "500"
    result = evoken("inspect", "cat.png")
    assert result.exit_code == 0 and "string_to_param" in result.output
    assert evoken("convert", "cat.png", "--to", "a1111", "--output", "out").exit_code == 0
    assert torch.equal(load_word("out/my-cat.safetensors").vectors, L)


def test_a_word_in_a_picture_with_a_black_margin() -> None:
    whole = with_pixels(in_json(L))
    framed = Image.new("RGB", (whole.width + 20, whole.height + 10))
    framed.paste(whole, (10, 5))
    framed.save("cat.png")
    assert torch.equal(load_word("cat.png").vectors, L)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP"])
@pytest.mark.parametrize("pixels", [True, False])
def test_a_picture_without_a_word(kind: str, pixels: bool) -> None:
    lossy = kind not in ("PNG", "BMP")
    Path("cat.png").write_bytes(picture(texts=False, pixels=pixels and lossy, kind=kind))
    refused(evoken("inspect", "cat.png"), "cat.png is a picture without a word in it")


def test_a_black_picture_has_no_word() -> None:
    Image.new("RGB", (40, 40)).save("cat.png")
    refused(evoken("inspect", "cat.png"), "without a word in it")


@pytest.mark.parametrize(
    "text", ["", "no base64!", "e30=", base64.b64encode(b"[" * 9**5).decode(), "W10="]
)
def test_a_picture_whose_text_is_no_word(text: str) -> None:
    more = PngImagePlugin.PngInfo()
    more.add_text("sd-ti-embedding", text)
    Image.new("RGB", (40, 40), "red").save("cat.png", pnginfo=more)
    refused(evoken("inspect", "cat.png"), "cat.png")


@pytest.mark.parametrize("content", [b"\0" * 2**27, b"no json"])
def test_pixels_that_hide_something_else(content: bytes) -> None:
    with_pixels(content, 512).save("cat.png")
    refused(evoken("inspect", "cat.png"), "cat.png")


# OneTrainer: its names, and its output embeddings.


@pytest.mark.parametrize("more", [{}, {"clip_l_out": L + 1, "t5_out": T + 1}])
def test_a_word_of_onetrainer_for_flux(more: dict[str, Tensor]) -> None:
    Path("cat.safetensors").write_bytes(save({"clip_l": L, "t5": T, **more}))
    found = read_embedding("cat.safetensors")
    assert same(found.vectors, {"clip_l": L, "t5xxl": T})
    assert [base.name for base in found.bases] == ["FLUX.1"]
    result = evoken("inspect", "cat.safetensors")
    assert ("clip_l_out, t5_out" in result.output) == bool(more)
    for tool in ("comfyui", "forge", "diffusers"):
        assert evoken("convert", "cat.safetensors", "--to", tool, "--output", tool).exit_code == 0


def test_a_word_of_onetrainer_is_drawn_with_flux(tiny_folder: Path) -> None:
    from evoken.models.load import load_model
    from evoken.spec import ModelSpec

    flux = load_model(ModelSpec(str(tiny_folder / "flux"), encoders="clip_l,t5xxl"))
    parts = flux.embed("red").split(list(flux.encoders.values()), 1)
    Path("cat.safetensors").write_bytes(save(dict(zip(("clip_l", "t5"), parts, strict=True))))
    shutil.copytree(tiny_folder / "flux", "flux")
    drawn = ("--model", "flux", "--count", 1, "--steps", 1)
    result = evoken("generate", "a cat", "--word", "cat.safetensors", *drawn)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "names", [("clip_l_out", "t5_out"), ("t5_out",), ("emp_params_out",), ("clip_l_out",)]
)
def test_output_embeddings_alone_are_refused_for_what_they_are(names: tuple[str, ...]) -> None:
    widths = {"t5_out": T}
    Path("cat.safetensors").write_bytes(save({name: widths.get(name, L) for name in names}))
    refused(evoken("inspect", "cat.safetensors"), "output embeddings of OneTrainer", names[0])


def test_a_word_for_a_model_with_another_text_encoder_is_refused_for_that() -> None:
    Path("cat.safetensors").write_bytes(save({"clip_l": L, "llama": T}))
    refused(evoken("inspect", "cat.safetensors"), "vectors for 'llama' too", "Chroma has such")


def test_different_numbers_of_vectors_are_shown_and_not_drawn() -> None:
    Path("cat.safetensors").write_bytes(save({"clip_l": L, "t5": T[:1]}))
    assert "FLUX.1" in evoken("inspect", "cat.safetensors").output
    refused(
        evoken("generate", "a cat", "--word", "cat.safetensors"),
        "clip_l: 2, t5xxl: 1",
        "OneTrainer",
    )


@pytest.mark.parametrize("kind", ["text", "gguf", "archive", "archive with a head"])
def test_what_torch_never_writes_is_said_in_words(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "word.pt"
    if kind == "archive":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("glass.pt", "a word in an archive")
    elif kind == "archive with a head":  # a zip to its readers, but not to torch
        file.write_bytes(b"MZ" + pt(a1111_dict(L)))
    else:
        file.write_bytes(b"hello" if kind == "text" else b"GGUF" + bytes(100))
    with pytest.raises(WordError, match="neither safetensors nor a file of torch nor a picture"):
        read_embedding(file)
