"""One word of several."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from evoken.errors import SettingError, WordError
from evoken.words.files import read_embedding
from evoken.words.layouts import Embedding
from evoken.words.merge import about_merged, merge, weighted
from evoken.words.word import Word, load_word, save_word
from tests.commands import evoken, refused
from tests.words import save, vectors

pytestmark = pytest.mark.usefixtures("own_folder")
A, B = (Word(f"<{n}>", vectors(16, 2, seed), {"clip_l": 16}) for seed, n in enumerate("ab"))


def both() -> None:
    for word in (A, B):
        save_word(f"{word.placeholder.strip('<>')}.safetensors", word, {"model": "/home/me/model"})


def test_the_weighted_sum() -> None:
    found = merge([A, B], [0.7, -0.3], "<c>")
    torch.testing.assert_close(found.vectors, 0.7 * A.vectors - 0.3 * B.vectors)
    assert found.placeholder == "<c>" and found.encoders == A.encoders
    torch.testing.assert_close(merge([A, B]).vectors, (A.vectors + B.vectors) / 2)


def test_the_command_and_its_file(tiny_folder: Path) -> None:
    both()
    result = evoken("merge", "a.safetensors:0.7", "b.safetensors:0.3", "--output", "c.safetensors")
    assert result.exit_code == 0 and "<c> = 0.7 <a> + 0.3 <b>" in result.output
    assert "Note" not in result.output
    assert torch.equal(load_word("c.safetensors").vectors, merge([A, B], [0.7, 0.3]).vectors)
    with safe_open("c.safetensors", "pt") as content:
        header = content.metadata()
    assert json.loads(header["evoken"])["merged"] == "0.7 <a> + 0.3 <b>"
    assert "home" not in json.dumps(header)
    drawn = ("--model", tiny_folder / "model", "--count", 1, "--steps", 1)
    assert evoken("generate", "a <c>", "--word", "c.safetensors", *drawn).exit_code == 0


def test_weights_that_do_not_sum_to_1_are_told_and_kept() -> None:
    both()
    given = ("merge", "a.safetensors:1", "b.safetensors:1", "--output", "c.safetensors")
    assert "the weights sum to 2, not to 1" in evoken(*given, "--name", "cow").output
    assert load_word("c.safetensors").placeholder == "cow"
    refused(evoken(*given), "already exists", "--force")
    assert evoken(*given, "--force").exit_code == 0


def test_what_no_prompt_or_file_could_hold_is_refused() -> None:
    both()
    given = ("merge", "a.safetensors:1e39", "b.safetensors:1e39", "--output", "c.safetensors")
    refused(evoken(*given), "too large for any file (got 1e+39, 1e+39)")
    given = ("merge", "a.safetensors", "b.safetensors", "--output", "c.safetensors")
    refused(evoken(*given, "--name", "  "), "--name must not be empty")
    assert not Path("c.safetensors").exists()


def test_a_word_gets_another_name_as_the_refusal_of_two_says(tiny_folder: Path) -> None:
    both()
    model = ("--model", tiny_folder / "model", "--count", 1, "--steps", 1)
    drawn = ("generate", "a <a>", "--word", "a.safetensors", *model)
    refused(evoken(*drawn, "--word", "a.safetensors"), "two words are called '<a>'", "evoken merge")
    other = ("a.safetensors:1", "a.safetensors:0", "--output", "other.safetensors")
    assert evoken("merge", *other).exit_code == 0
    assert torch.equal(load_word("other.safetensors").vectors, A.vectors)
    both_drawn = ("generate", "a <a> and a <other>", *drawn[2:], "--word", "other.safetensors")
    assert evoken(*both_drawn).exit_code == 0


def test_clashes_are_refused_and_nothing_is_written() -> None:
    both()
    save_word("one.safetensors", Word("<one>", A.vectors[:1], {"clip_l": 16}))
    save_word("g.safetensors", Word("<g>", A.vectors, {"clip_g": 16}))
    for name, base in (("sd1", "stable-diffusion-v1"), ("flux", "flux-1-dev")):
        content = save({f"<{name}>": vectors(768)}, {"modelspec.architecture": base})
        Path(f"{name}.safetensors").write_bytes(content)
    to = ("--output", "c.safetensors")
    a = "a.safetensors"
    refused(evoken("merge", a, "one.safetensors", *to), "'<a>': 2 x clip_l 16 and '<one>': 1 x")
    refused(evoken("merge", a, "g.safetensors", *to), "same text encoders")
    refused(evoken("merge", "sd1.safetensors", "flux.safetensors", *to), "FLUX.1", "<sd1>")
    refused(evoken("merge", a, *to), "two words or more")
    refused(evoken("merge", f"{a}:0.5", "b.safetensors", *to), "none for 'b.safetensors'")
    refused(evoken("merge", f"{a}:inf", "b.safetensors:1", *to), "finite numbers")
    refused(evoken("merge", f"{a}:0", "b.safetensors:0", *to), "not all 0")
    refused(evoken("merge", a, "b.safetensors", "--output", "c.pt"), ".safetensors file")
    refused(evoken("merge", a, "none", *to), "no run folder")
    assert not Path("c.safetensors").exists()
    with pytest.raises(SettingError, match="one weight for each word"):
        merge([A, B], [1])
    with pytest.raises(WordError, match="two words"):
        merge([])


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [(("flux-1-dev", "flux-1-dev"), True), (("flux-1-dev", "stable-diffusion-v1"), False)],
)
def test_a_merged_word_is_for_a_model_that_all_of_its_words_are_for(
    kinds: tuple[str, ...], kept: bool
) -> None:
    words = [Embedding("<a>", {"clip_l": A.vectors}, {"architecture": k}, "tensor") for k in kinds]
    about = about_merged(words, [0.7, 0.3])
    assert about["merged"] == "0.7 <a> + 0.3 <a>"
    assert about.get("architecture") == (kinds[0] if kept else None)


def test_control_characters_of_files_are_never_printed() -> None:
    evil = "a\x1b[31m\u202e\x07b"
    content = {"a.pt": {"<a>": A.vectors}, "two.pt": {evil: A.vectors, f"{evil}2": A.vectors}}
    for name, tensors in content.items():
        Path(name).write_bytes(save(tensors))
    header = {"modelspec.trigger_phrase": evil, "name": evil, evil: evil}
    Path("named.safetensors").write_bytes(save({"emb_params": A.vectors}, header))
    for command in (
        ("inspect", "named.safetensors"),
        ("convert", "named.safetensors", "--to", "comfyui"),
        ("convert", "named.safetensors", "--to", "diffusers"),
        ("inspect", "two.pt"),
        ("inspect", f"two.pt#{evil}"),
        ("inspect", "two.pt#none"),
        ("inspect", f"none{evil}"),
        ("merge", "named.safetensors", "a.pt", "--output", "c.safetensors"),
        ("merge", "named.safetensors", f"two.pt#{evil}x", "--output", "d.safetensors"),
        ("generate", "a cat", "--word", "named.safetensors"),
    ):
        result = evoken(*command)
        assert result.output and not set("\x1b\x07\u202e") & set(result.output), command
    assert "\x1b" not in repr(load_word("named.safetensors"))
    assert evil in read_embedding("c.safetensors").about["merged"]


@pytest.mark.parametrize("weight", ["0,7", "70%"])
def test_a_weight_that_is_no_number_is_said(weight: str) -> None:
    with pytest.raises(SettingError, match=f"must be a number .got '{weight}'."):
        weighted([f"runs/cat:{weight}", "runs/dog:0.3"])
    assert weighted(["C:/cat", "dog"]) == (["C:/cat", "dog"], [0.5, 0.5])


def test_what_stands_behind_the_colon_of_a_word_that_is_there_is_a_weight() -> None:
    Path("cat").mkdir()
    Path("dog:x").mkdir()
    with pytest.raises(SettingError, match=r"must be a number \(got 'much'\)."):
        weighted(["cat:much", "dog:0.3"])
    assert weighted(["cat:0.7", "dog:0.3"]) == (["cat", "dog"], [0.7, 0.3])
    assert weighted(["cat", "dog:x"]) == (["cat", "dog:x"], [0.5, 0.5])
