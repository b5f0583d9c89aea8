"""Embedding files: every layout is read bit for bit, and whatever is broken or hostile is refused
with one clear error.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evoken.errors import EvokenError, WordError
from evoken.models.bases import CHROMA, FLUX, KLEIN_4B, LUMINA_2, SANA, SD1, SD2, SD3, SDXL, Z_IMAGE
from evoken.words.convert import TOOLS, convert
from evoken.words.files import read_embedding
from evoken.words.layouts import LAYOUTS, Embedding, told_by_width
from evoken.words.word import load_word
from tests.words import OLD, WIDTHS, a1111_dict, pt, same, save, vectors


class Attack:
    """Whoever unpickles it makes a folder."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("attacked",)


L, G, H, T = (vectors(w, 3) for w in (768, 1280, 1024, 4096))
READ: dict[str, tuple[str, bytes, str, str, dict[str, Tensor]]] = {
    # file name, content, layout, placeholder, vectors
    "rank 1": ("x.safetensors", save({"<cat>": L[0]}), "token", "<cat>", {"clip_l": L[:1]}),
    "rank 2": ("x.safetensors", save({"<cat>": L}), "token", "<cat>", {"clip_l": L}),
    "any key": ("x.safetensors", save({"what.ever": H}), "token", "what.ever", {"clip_h": H}),
    "half": ("x.safetensors", save({"c": L.half()}), "token", "c", {"clip_l": L.half().float()}),
    "other width": ("x.safetensors", save({"c": L[:, :9]}), "token", "c", {"clip_l": L[:, :9]}),
    "emb_params": ("cat.safetensors", save({"emb_params": L}), "emb_params", "cat", {"clip_l": L}),
    "emp_params": ("cat.safetensors", save({"emp_params": H}), "emp_params", "cat", {"clip_h": H}),
    "name in the header": (
        "x.safetensors",
        save({"emb_params": L}, {"name": "cat", "step": "9"}),
        "emb_params",
        "cat",
        {"clip_l": L},
    ),
    "trigger in the header": (
        "x.safetensors",
        save({"clip_g": G, "clip_l": L}, {"modelspec.trigger_phrase": "a cat"}),
        "encoders",
        "a cat",
        {"clip_l": L, "clip_g": G},
    ),
    "a star": ("cat.safetensors", save({"*": L}), "token", "cat", {"clip_l": L}),
    "called as a layout": ("x.pt", pt({"bundle": L}), "token", "bundle", {"clip_l": L}),
    "clip_l": ("cat.safetensors", save({"clip_l": L}), "encoders", "cat", {"clip_l": L}),
    "SDXL": (
        "cat.safetensors",
        save({"clip_g": G, "clip_l": L}),
        "encoders",
        "cat",
        {"clip_l": L, "clip_g": G},
    ),
    "output embeddings": (
        "cat.safetensors",
        save({"clip_l": L, "clip_l_out": L + 1, "t5": T, "t5_out": T}),
        "encoders",
        "cat",
        {"clip_l": L, "t5xxl": T},
    ),
    "t5 under both names": (
        "cat.safetensors",
        save({"clip_l": L, "clip_g": G, "t5": T, "t5xxl": T}),
        "encoders",
        "cat",
        {"clip_l": L, "clip_g": G, "t5xxl": T},
    ),
    "text_encoders": (
        "cat.safetensors",
        save({"text_encoders_0": L, "text_encoders_1": G}),
        "encoders",
        "cat",
        {"clip_l": L, "clip_g": G},
    ),
    "bundled": (
        "lora.safetensors",
        save({"bundle_emb.cat.string_to_param.*": L, **{f"lora.{i}": L for i in range(70)}}),
        "bundle",
        "cat",
        {"clip_l": L},
    ),
    "bundled by encoder": (
        "lora.safetensors",
        save({"bundle_emb.a.b.clip_l": L, "bundle_emb.a.b.clip_g": G, "x": L}),
        "bundle",
        "a.b",
        {"clip_l": L, "clip_g": G},
    ),
    "A1111": ("x.pt", pt(a1111_dict(L)), "a1111", "<my cat>", {"clip_l": L}),
    "A1111, old": ("x.pt", pt(a1111_dict(L), **OLD), "a1111", "<my cat>", {"clip_l": L}),
    "A1111, a parameter": (
        "x.pt",
        pt(a1111_dict(torch.nn.Parameter(L))),
        "a1111",
        "<my cat>",
        {"clip_l": L},
    ),
    "learned_embeds.bin": (
        "learned_embeds.bin",
        pt({"<cat>": L[0]}),
        "token",
        "<cat>",
        {"clip_l": L[:1]},
    ),
    "bare tensor": ("cat.bin", pt(L), "tensor", "cat", {"clip_l": L}),
    "wrong suffix": ("cat.pt", save({"<cat>": L}), "token", "<cat>", {"clip_l": L}),
}


@pytest.mark.parametrize("case", READ)
def test_every_layout_is_read_bit_for_bit(case: str, tmp_path: Path) -> None:
    name, content, layout, placeholder, expected = READ[case]
    (tmp_path / name).write_bytes(content)
    found = read_embedding(tmp_path / name)
    assert (found.layout, found.placeholder) == (layout, placeholder)
    assert same(found.vectors, expected)
    word = load_word(tmp_path if name.startswith("learned_embeds") else tmp_path / name)
    assert torch.equal(word.vectors, torch.cat(list(expected.values()), 1))
    assert word.encoders == {n: v.shape[1] for n, v in expected.items()}


def test_every_layout_is_in_the_battery_and_facts_are_kept(tmp_path: Path) -> None:
    assert {case[2] for case in READ.values()} == set(LAYOUTS)
    (tmp_path / "x.pt").write_bytes(READ["A1111"][1])
    facts = {"step": "500", "sd_checkpoint": "ab12", "sd_checkpoint_name": "v1-5"}
    assert read_embedding(tmp_path / "x.pt").about == facts


@pytest.mark.parametrize(
    ("parts", "header", "expected"),
    [
        (("clip_l",), {}, (SD1, FLUX)),
        (("clip_h",), {}, (SD2,)),
        (("clip_l", "clip_g"), {}, (SDXL, SD3)),
        (("clip_l", "clip_g"), {"modelspec.architecture": "stable-diffusion-3-m/x"}, (SD3,)),
        (("clip_l", "clip_g"), {"modelspec.architecture": "a lie"}, (SDXL, SD3)),
        (("clip_l",), {"modelspec.architecture": "flux-1-dev/textual-inversion"}, (FLUX,)),
        (("clip_l", "clip_g", "t5xxl"), {}, (SD3,)),
        (("clip_l", "t5xxl"), {}, (FLUX,)),
        # Some of a base's encoders: it is the base that the file names, or each that has them.
        (("clip_l",), {"modelspec.architecture": "stable-diffusion-xl-v1-base/x"}, (SDXL,)),
        (("clip_g",), {"modelspec.architecture": "stable-diffusion-xl-v1-base"}, (SDXL,)),
        (("clip_g",), {"modelspec.architecture": "stable-diffusion-3-m"}, (SD3,)),
        (("clip_l", "t5xxl"), {"modelspec.architecture": "stable-diffusion-3-m"}, (SD3,)),
        (("t5xxl",), {"modelspec.architecture": "flux-1-dev"}, (FLUX,)),
        (("clip_g",), {}, (SDXL, SD3)),
        (("clip_g", "t5xxl"), {}, (SD3,)),
        (("t5xxl",), {}, (CHROMA,)),
        # Encoders that the named base has not.
        (("clip_h",), {"modelspec.architecture": "stable-diffusion-xl-v1-base"}, (SD2,)),
        (("t5xxl",), {"modelspec.architecture": "stable-diffusion-v1"}, (CHROMA,)),
        (("qwen3_4b",), {}, (KLEIN_4B, Z_IMAGE)),
        (("qwen3_4b",), {"modelspec.architecture": "z-image"}, (Z_IMAGE,)),
        (("gemma2_2b",), {}, (SANA, LUMINA_2)),
        (("clip_l", "clip_h"), {"modelspec.architecture": "stable-diffusion-v1"}, ()),
    ],
)
def test_the_base_is_told_by_widths_and_by_what_the_file_names(
    parts: tuple[str, ...], header: dict[str, str], expected: tuple[object, ...], tmp_path: Path
) -> None:
    content = save({n: vectors(WIDTHS[n]) for n in parts}, header)
    (tmp_path / "x.safetensors").write_bytes(content)
    assert read_embedding(tmp_path / "x.safetensors").bases == expected


# Broken, foreign and hostile files.

BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "text": b"a cat",
    "an attack in an archive": pt({"a": L, "b": Attack()}),
    "an attack in an old file": pt({"a": L, "b": Attack()}, **OLD),
    "a header without end": b"\xff" * 8 + b"{",
    "no entry": save({}),
    "integers": save({"a": torch.ones(1, 768, dtype=torch.int64)}),
    "NaN": save({"a": torch.full((1, 768), float("nan"))}),
    "infinity": save({"a": torch.full((1, 768), 1e300, dtype=torch.float64)}),
    "no vector": save({"a": torch.zeros(0, 768)}),
    "no width": save({"a": torch.zeros(1, 0)}),
    "a scalar": save({"a": torch.tensor(1.0)}),
    "rank 3": save({"a": torch.zeros(1, 1, 768)}),
    "two unknown keys": save({"a": L, "b": L}),
    "one known, one unknown key": save({"clip_l": L, "b": L}),
    "two for one encoder": save({"t5": T, "t5xxl": T + 1}),
    "two bundled": save({"bundle_emb.a.clip_l": L, "bundle_emb.b.clip_l": L}),
    "a model": save({f"layer.{i}": L for i in range(70)}),
    "a list": pt([L]),
    "a number": pt(3),
    "keys that are numbers": pt({1: L}),
    "two in string_to_param": pt({"string_to_param": {"*": L, "+": L}}),
    "no dict in string_to_param": pt({"string_to_param": L}),
    "a string for vectors": pt({"string_to_param": {"*": "cat"}}),
    "complex numbers": pt({"a": torch.ones(1, 8, dtype=torch.complex64)}),
    "more numbers than there are": pt({"a": torch.ones(1).expand(2**20, 2**20)}),
    "sparse": pt({"a": torch.eye(8).to_sparse()}),
    "different counts": save({"clip_l": L, "clip_g": G[:2]}),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_broken_file_is_one_clear_error(
    case: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(BROKEN[case])
    with pytest.raises(WordError):
        load_word(path)
    assert not Path("attacked").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": L, "b": L}, r"layout of .* \(got 2 entries: 'a', 'b'\)"),
        ({"clip_l": L, "b": L}, "has vectors for 'b' too, and no model of Stable Diffusion 1"),
    ],
)
def test_several_words_are_told_from_a_text_encoder_that_nobody_has(
    content: dict[str, Tensor], said: str, tmp_path: Path
) -> None:
    (tmp_path / "x.safetensors").write_bytes(save(content))
    with pytest.raises(WordError, match=said):
        load_word(tmp_path / "x.safetensors")


def test_two_files_are_one_word_if_their_names_are_the_same_and_their_encoders_are_not() -> None:
    one, source = Embedding("<cat>", {"clip_l": L}, {}, "token"), Path("second.safetensors")
    both = Embedding("<cat>", {"clip_g": G}, {}, "token").with_encoders(one, source)
    assert same(both.vectors, {"clip_l": L, "clip_g": G}) and both.layout == "encoders"
    for name, encoder in (("<dog>", "clip_g"), ("<cat>", "clip_l")):
        with pytest.raises(WordError, match=r"is not the second file of .<cat>"):
            one.with_encoders(Embedding(name, {encoder: L}, {}, "token"), source)


@pytest.mark.parametrize(
    ("widths", "told"),
    [({}, True), ({"clip_l": 768}, True), ({"clip_l": 9}, True), ({"clip_h": 9}, False)],
)
def test_vectors_without_a_name_are_of_the_encoder_of_their_width(
    widths: dict[str, int], told: bool
) -> None:
    assert told_by_width(widths) == told
    assert not told_by_width({"clip_l": 768, "clip_g": 1280})


def test_no_file_and_a_folder_without_a_word(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path, tmp_path / ("x" * 5000)):
        with pytest.raises(WordError):
            load_word(path)


def read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "x"
    path.write_bytes(content)
    try:
        found = read_embedding(path)
    except WordError:
        return
    assert found.vectors and found.placeholder and found.layout in LAYOUTS
    for one in found.vectors.values():
        assert one.dtype == torch.float32 and one.ndim == 2 and one.isfinite().all()
    for tool in TOOLS:  # and whatever was read can be written, or is refused
        try:
            convert(found, tool, folder)
        except EvokenError:
            continue


WHOLE = [case[1] for case in READ.values() if len(case[1]) < 20_000] + [
    BROKEN["an attack in an archive"]
]


@given(content=st.binary(max_size=200))
@settings(max_examples=100)
def test_random_bytes_do_no_harm(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    read_or_refused(tmp_path_factory.getbasetemp(), content)


@given(data=st.data())
@settings(max_examples=150)
def test_damage_does_no_harm(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(data.draw(st.sampled_from(WHOLE)))
    end = data.draw(st.integers(0, len(content)))
    for place in data.draw(st.lists(st.integers(0, min(400, len(content) - 1)), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    read_or_refused(tmp_path_factory.getbasetemp(), bytes(content[: end or None]))


KEYS = st.sampled_from(
    [
        "<cat>",
        "clip_l",
        "clip_g",
        "t5",
        "emb_params",
        "clip_l_out",
        "name",
        "",
        "é\ud800",
        "*",
        "string_to_param",
        "bundle_emb.",
        "bundle_emb.a",
        "__metadata__",
    ]
)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool])
TENSORS = st.builds(
    lambda shape, dtype, value: torch.full(shape, value).to(dtype),
    st.lists(st.integers(0, 3), max_size=2).map(lambda rows: [*rows, 768]) | st.just([]),
    DTYPES,
    st.sampled_from([0.0, 1.0, float("nan"), float("inf")]),
)
VALUES = st.recursive(
    TENSORS | st.none() | st.text(max_size=3),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=4,
)


@given(content=VALUES, old=st.booleans())
@settings(max_examples=150)
def test_dicts_of_anything_do_no_harm(
    content: Any, old: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    options = OLD if old else {}
    read_or_refused(tmp_path_factory.getbasetemp(), pt(content, **options))


HEADER = st.sampled_from(["evoken", "name", "modelspec.architecture"])
TEXT = st.sampled_from(
    ["", "{", "[1]", '{"placeholder": 3}', "[" * 5000, '{"model": "\\ud800", "a": 0}', "flux-1"]
)


@given(header=st.dictionaries(HEADER, TEXT))
def test_headers_of_anything_do_no_harm(
    header: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    read_or_refused(tmp_path_factory.getbasetemp(), save({"emb_params": L}, header))
