"""Words as files for other programs: read back bit for bit, the same from the same, never in place
of another file; and words of several encoders in the program's own files.
"""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from evoken.errors import RunError, SettingError, WordError
from evoken.models.bases import SD1, SD3
from evoken.models.families.stable_diffusion_3 import StableDiffusion3
from evoken.spec import ModelSpec
from evoken.words.convert import NAMES, TOOLS, convert, diffusers_usage
from evoken.words.files import read_embedding, safetensors_bytes
from evoken.words.header import header, stem_of
from evoken.words.layouts import Embedding
from evoken.words.word import Word, fitted, load_word, save_word
from tests import tiny
from tests.words import BASE_OF, embedding, same, save, vectors

ROOT = Path(__file__).parent.parent


def written() -> list[tuple[str, str, int, bool]]:
    return [
        (tool, base, count, t5)
        for tool, takes in TOOLS.items()
        for base in BASE_OF
        for count in (1, 3)
        for t5 in (False, True)[: 1 + ("t5xxl" in BASE_OF[base].widths)]
        if tuple(embedding(base, count, t5).vectors) in takes.get(BASE_OF[base], ())
    ]


@pytest.mark.parametrize(("tool", "base", "count", "t5"), written())
def test_what_is_written_is_read_back_bit_for_bit(
    tool: str, base: str, count: int, t5: bool, tmp_path: Path
) -> None:
    word = embedding(base, count, t5)
    converted = convert(word, tool, tmp_path)
    assert converted.content == convert(word, tool, tmp_path).content
    assert re.fullmatch(r"[A-Za-z0-9._-]+", converted.path.name)
    converted.write()
    found = read_embedding(converted.path)
    assert found.placeholder == word.placeholder and same(found.vectors, word.vectors)
    if tool != "pt":  # an A1111 file has room for a checkpoint's name only
        assert found.about == word.about and found.bases == (BASE_OF[base],)
        assert convert(found, tool, tmp_path).content == converted.content


def test_the_same_word_is_the_same_file_in_another_process(tmp_path: Path) -> None:
    cases = [("a1111", "SDXL"), ("pt", "SD1")]
    code = (
        "import sys; from pathlib import Path; from tests.words import embedding; "
        "from evoken.words.convert import convert; "
        f"[convert(embedding(b), t, Path(sys.argv[1])).write() for t, b in {cases}]"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    for tool, base in cases:
        converted = convert(embedding(base), tool, tmp_path)
        assert converted.path.read_bytes() == converted.content


def test_the_writer_is_that_of_safetensors_where_that_one_is_of_one_mind() -> None:
    tensors = {"<é>": vectors(768, 3), "b": vectors(5)}
    assert safetensors_bytes(tensors, {"a": '"ü"'}) == save(tensors, {"a": '"ü"'})


@pytest.mark.parametrize("base", BASE_OF)
@pytest.mark.parametrize("tool", TOOLS)
def test_a_base_that_a_tool_does_not_load_is_refused(tool: str, base: str, tmp_path: Path) -> None:
    word, sets = embedding(base), TOOLS[tool].get(BASE_OF[base], ())
    if tuple(word.vectors) in sets:
        convert(word, tool, tmp_path)
        return
    also = f"for {BASE_OF[base].name} only with" if sets else "for"
    reason = f"{NAMES[tool]} loads words {also}" if sets else f"{NAMES[tool]} only loads words for"
    with pytest.raises(WordError, match=re.escape(reason)) as error:
        convert(word, tool, tmp_path)
    for other in TOOLS:  # what is advised works
        if re.search(rf"\b{other}\b", error.value.fix):
            convert(word, other, tmp_path)


def test_words_of_other_widths_are_written_with_a_caution(tmp_path: Path) -> None:
    word = Embedding("<cat>", {"clip_l": vectors(256)}, {}, "token")
    for tool in TOOLS:
        converted = convert(word, tool, tmp_path / tool)
        converted.write()
        found = read_embedding(converted.path)
        assert torch.equal(next(iter(found.vectors.values())), word.vectors["clip_l"])
        assert ("clip_l 256" in converted.caution) == (tool != "diffusers")
    two = Embedding("<cat>", {"clip_l": vectors(256), "clip_g": vectors(256)}, {}, "encoders")
    converted = convert(two, "comfyui", tmp_path)
    converted.write()
    assert set(read_embedding(converted.path).vectors) == {"clip_l", "clip_g"}
    for tool in ("pt", "diffusers"):
        with pytest.raises(WordError, match="clip_l of width 256") as caught:
            convert(two, tool, tmp_path)
        assert caught.value.fix == "Use `tool` a1111 or forge or comfyui or invokeai."
    # One encoder of several, which diffusers would load into the first, if the family into any.
    flow = Embedding("<cat>", {"clip_g": vectors(256)}, {"architecture": SD3.architecture}, "token")
    converted = convert(flow, "comfyui", tmp_path)
    converted.write(force=True)
    assert set(read_embedding(converted.path).vectors) == {"clip_g"}
    for name in ("clip_l", "clip_g"):
        flow = Embedding("<cat>", {name: vectors(256)}, dict(flow.about), "token")
        with pytest.raises(WordError, match=f"{name} of width 256"):
            convert(flow, "diffusers", tmp_path)
    with pytest.raises(SettingError, match="diffusers, a1111"):
        convert(word, "photoshop", tmp_path)


@pytest.mark.parametrize("tool", ["a1111", "forge", "comfyui", "invokeai"])
@pytest.mark.parametrize("count", [1, 2])
def test_one_vector_goes_by_its_name_and_several_by_a_key_that_all_know(
    tool: str, count: int
) -> None:
    word = embedding("SD1", count)
    [(key, found)] = safetensors.torch.load(convert(word, tool, Path()).content).items()
    (own,) = word.vectors.values()
    assert key == ("<my cat>" if count == 1 else "emb_params")
    assert torch.equal(found, own[0] if count == 1 else own)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    converted = convert(embedding("SD1"), "a1111", tmp_path)
    converted.write()
    converted.write()  # the same content is no loss
    converted.path.write_bytes(b"mine")
    with pytest.raises(RunError, match="with `force`"):
        converted.write()
    assert converted.path.read_bytes() == b"mine"
    converted.write(force=True)
    assert converted.path.read_bytes() == converted.content


@given(placeholder=st.text())
def test_file_names_suit_every_program(placeholder: str) -> None:
    stem = stem_of(placeholder)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", stem) and len(stem) <= 100
    assert stem_of(stem) == stem
    assert stem_of("a" * 150) == "a" * 100


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("", "stable-diffusion-v1"),
        ("stable-diffusion-v1-5", "stable-diffusion-v1-5"),
        ("flux-1-dev", "stable-diffusion-v1"),
    ],
)
def test_the_header_names_the_kind_of_model_as_closely_as_is_known(named: str, kept: str) -> None:
    word = replace(embedding("SD1"), about={"architecture": named} if named else {})
    assert header(word, SD1)["modelspec.architecture"] == f"{kept}/textual-inversion"
    assert "modelspec.architecture" not in header(word, None)


# Words of several encoders in the program's own files.


def test_a_word_of_several_encoders_is_kept_by_encoder(tmp_path: Path) -> None:
    row = torch.cat([vectors(16), vectors(24)], 1)
    word = Word("<cat>", row, {"clip_l": 16, "clip_g": 24})
    save_word(tmp_path / "x.safetensors", word, {"model": "m"})
    found = read_embedding(tmp_path / "x.safetensors")
    assert found.widths == {"clip_l": 16, "clip_g": 24} and found.about == {"model": "m"}
    again = load_word(tmp_path / "x.safetensors")
    assert again.placeholder == "<cat>" and torch.equal(again.vectors, row)


@pytest.mark.parametrize("encoders", [{"clip_l": 16}, {"clip_g": 16}, {"clip_g": 1280}])
def test_a_word_of_one_encoder_is_read_as_that_encoder_s(
    encoders: dict[str, int], tmp_path: Path
) -> None:
    (width,) = encoders.values()
    save_word(tmp_path / "x.safetensors", Word("<cat>", vectors(width), encoders), {"model": "m"})
    found = read_embedding(tmp_path / "x.safetensors")
    assert found.widths == encoders and found.placeholder == "<cat>"
    # As diffusers writes it, where that is enough.
    assert found.layout == ("encoders" if encoders == {"clip_g": 16} else "token")


def test_a_word_is_fitted_to_the_encoders_that_a_model_reads() -> None:
    model = StableDiffusion3(tiny.flow_pipeline(), ModelSpec("tiny"))
    row = torch.cat([vectors(16, seed=1), vectors(16, seed=2), vectors(4096)], 1)
    word = Word("<cat>", row, {"clip_l": 16, "clip_g": 16, "t5xxl": 4096})
    assert torch.equal(fitted(word, model).vectors, row[:, :32])
    assert fitted(fitted(word, model), model).encoders == model.encoders
    for encoders in ({"clip_l": 16}, {"clip_l": 16, "clip_g": 24}):
        width = sum(encoders.values())
        with pytest.raises(WordError, match="'tiny' needs a word of width 32"):
            fitted(Word("<cat>", torch.zeros(1, width), encoders), model)


def test_a_word_of_another_encoder_that_is_as_wide_is_refused() -> None:
    model = SimpleNamespace(width=4096, encoders={"t5xxl": 4096}, spec=ModelSpec("chroma"))
    with pytest.raises(WordError, match=r"needs a word for t5xxl \(got one for qwen3_8b\)"):
        fitted(Word("<cat>", torch.zeros(1, 4096), {"qwen3_8b": 4096}), model)  # type: ignore[arg-type]
    for encoders in ({"t5xxl": 4096}, {"clip_l": 4096}, {}):  # the last two: of no known model
        word = Word("<cat>", torch.zeros(1, 4096), encoders)
        assert fitted(word, model) is word  # type: ignore[arg-type]


def test_a_word_has_rows_as_wide_as_its_encoders() -> None:
    with pytest.raises(WordError, match=r"Take vectors\[None\] for one vector"):
        Word("<cat>", torch.zeros(768))
    with pytest.raises(WordError, match="must be 768 wide together \\(got 16\\)"):
        Word("<cat>", torch.zeros(1, 16), {"clip_l": 768})


def test_no_code_is_given_for_a_base_that_diffusers_loads_no_words_for() -> None:
    with pytest.raises(
        WordError, match=r"diffusers only loads .* \(got one for Stable Diffusion 3\)"
    ):
        diffusers_usage(Path("word.safetensors"), "<x>", SD3, {"clip_l": "clip_l"})
