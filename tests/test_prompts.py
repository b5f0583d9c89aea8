"""Words in prompts: where a placeholder is one, several of them, and negative prompts."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from evoken.errors import SettingError, WordError
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.load import load_model
from evoken.pictures.drawing import draw, images_of
from evoken.prompts import KINDS, holds, pieces, rest_of, without
from evoken.words.word import Word, load_word, save_word, words_for
from tests import tiny
from tests.commands import evoken, refused

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.parametrize(
    ("prompt", "placeholder", "is_there"),
    [
        ("a photo of a cat", "cat", True),
        ("cat", "cat", True),
        ("a cat's hat, a cat.", "cat", True),
        ("(cat:1.3)", "cat", True),
        ("a cat-like thing", "cat", True),
        ("a photo of a cathedral", "cat", False),
        ("a bobcat", "cat", False),
        ("a cat_2", "cat", False),
        ("a cat2", "cat", False),
        ("éclair", "clair", False),
        ("a <cat>", "<cat>", True),
        ("two <cat>s", "<cat>", True),
        ("a <cat>_1", "<cat>", False),
        ("a <cats>", "<cat>", False),
        ("a <cat2>", "<cat>", False),
        ("", "cat", False),
        ("a cat", "", False),
    ],
)
def test_a_placeholder_is_a_whole_word(prompt: str, placeholder: str, is_there: bool) -> None:
    assert holds(prompt, placeholder) == is_there


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_pieces_are_the_prompt_again(prompt: str, placeholders: list[str]) -> None:
    cut = pieces(prompt, placeholders)
    assert "".join(text + name for text, name in cut) == prompt
    assert cut[-1][1] == "" and all(name in placeholders for _, name in cut[:-1])
    assert without(prompt, placeholders) == "".join(text for text, _ in cut)


def test_the_longer_of_two_names_is_meant() -> None:
    assert pieces("a cat stevens", ["cat", "cat stevens"]) == [("a ", "cat stevens"), ("", "")]


def test_a_word_inside_another_draws_what_is_written(model: StableDiffusion) -> None:
    car = Word("cat", model.embed("red")[:1])
    written = model.condition(["a photo of a cathedral"])
    assert torch.equal(
        model.condition(["a photo of a cathedral"], {"cat": car.vectors[None]}), written
    )
    with pytest.raises(WordError, match="as a word of its own"):
        draw(model, "a photo of a cathedral", car)


@pytest.mark.parametrize(
    ("template", "rest"),
    [
        ("a photo of a {} on the beach", "a photo on the beach"),
        ("an oil painting of a {}", "an oil painting"),
        ("a photo of the {} next to a house", "a photo next to a house"),
        ("a cat in the style of {}", "a cat"),
        ("{} in space", "in space"),
    ],
)
def test_a_sentence_without_its_thing_says_the_rest(template: str, rest: str) -> None:
    assert rest_of(template) == rest


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_of_every_sentence_is_something(kind: str) -> None:
    row = KINDS[kind]
    for template in filter(None, (*row.templates, *row.edits, row.beside, row.recoloured)):
        assert template.count("{}") == 1
    rests = [rest_of(template) for template in row.edits]
    assert len({*rests}) == len(rests) and all("{" not in rest and rest for rest in rests)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_several_words_are_their_vectors_in_their_places(
    model: StableDiffusion, count: int
) -> None:
    first, second = model.embed("red"), model.embed("house")
    words = {"<a>": first[:1].repeat(1, count, 1), "b": second[None, :1]}
    found = model.condition(["a <a> and a b"], words)
    plain = " ".join(["red"] * count)
    assert torch.equal(found, model.condition([f"a {plain} and a house"]))


def test_the_order_of_words_changes_nothing(model: StableDiffusion) -> None:
    words = [Word("<a>", model.embed("red")[:1]), Word("<b>", model.embed("house")[:1])]
    drawn = [images_of(model, "a <b> with a <a>", w, 2, 0, 2) for w in (words, words[::-1])]
    assert torch.equal(*drawn)


def test_words_that_clash_are_refused(model: StableDiffusion) -> None:
    words = [Word("<a>", model.embed("red")[:1]), Word("<a>", model.embed("house")[:1])]
    with pytest.raises(WordError, match="two words are called '<a>'"):
        words_for(model, words, "a <a>")
    with pytest.raises(WordError, match="does not contain the word '<b>'"):
        words_for(model, [words[0], Word("<b>", words[0].vectors)], "a <a>")


def test_a_prompt_that_would_be_cut_is_refused(model: StableDiffusion) -> None:
    long = "red house " * model.prompt_room
    with pytest.raises(WordError, match=f"at most {model.prompt_room} tokens"):
        draw(model, long)
    with pytest.raises(WordError, match="tokens"):
        draw(model, "a cat", negative=long)
    fits = " ".join(["red"] * model.prompt_room)
    assert len(draw(model, fits, count=1, steps=1)) == 1


def test_a_negative_prompt_is_what_guidance_leads_away_from(model: StableDiffusion) -> None:
    plain = images_of(model, "a cat", None, 2, 0, 3)
    assert torch.equal(images_of(model, "a cat", None, 2, 0, 3, negative=""), plain)
    other = images_of(model, "a cat", None, 2, 0, 3, negative="a red house")
    assert not torch.equal(other, plain)
    word = Word("bad", model.embed("red")[:1])
    as_word = images_of(model, "a cat", word, 2, 0, 3, negative="a bad house")
    assert torch.equal(as_word, other)
    with pytest.raises(SettingError, match="needs `guidance`"):
        draw(model, "a cat", guidance=1, negative="a house")


def test_a_distilled_model_has_no_negative_prompt(tiny_folder: Path) -> None:
    flux = load_model(str(tiny_folder / "flux"))
    with pytest.raises(SettingError, match="no `negative` prompt"):
        draw(flux, "a cat", count=1, steps=1, negative="a house")


# The commands.


def two_words(model: StableDiffusion) -> None:
    save_word("a.safetensors", Word("<a>", model.embed("red")[:1]))
    save_word("b.safetensors", Word("<b>", model.embed("house")[:1]))


def test_word_is_repeatable(tiny_folder: Path, model: StableDiffusion) -> None:
    two_words(model)
    model_options = ("--model", tiny_folder / "model", "--count", 1, "--steps", 2)
    command = ("generate", "a <a> <b>", *model_options)
    both = evoken(*command, "--word", "a.safetensors", "--word", "b.safetensors", "--output", "one")
    assert both.exit_code == 0, both.output
    said = ("generate", "a red house", *model_options, "--output", "two")
    assert evoken(*said).exit_code == 0
    files = [next(Path(f).glob("*-00.png")).read_bytes() for f in ("one", "two")]
    assert files[0] == files[1]
    refused(evoken(*command, "--word", "a.safetensors", "--word", "a.safetensors"), "two words")
    refused(evoken(*command, "--word", "a.safetensors", "--word", tiny_folder), "no run folder")


def test_one_of_several_words_in_a_file(tiny_folder: Path, model: StableDiffusion) -> None:
    save_file({"<a>": model.embed("red")[:1], "<b>": model.embed("house")[:1]}, "both.safetensors")
    assert load_word("both.safetensors#<b>").placeholder == "<b>"
    with pytest.raises(WordError, match=r"no word called '<c>'.*'<a>', '<b>'"):
        load_word("both.safetensors#<c>")
    refused(evoken("inspect", "both.safetensors"), "both.safetensors")
    assert "<a>" in evoken("inspect", "both.safetensors#<a>").output
    Path("odd#name.safetensors").write_bytes(Path("both.safetensors").read_bytes())
    with pytest.raises(WordError):  # the file itself, not "name.safetensors" in "odd"
        load_word("odd#name.safetensors")


def test_negative_prompts_and_words_from_the_command_line(
    tiny_folder: Path, model: StableDiffusion
) -> None:
    two_words(model)
    command = ("generate", "a cat", "--model", tiny_folder / "model", "--count", 1, "--steps", 2)
    for name, more in (
        (
            "words",
            ("--negative", "a <a> <b>", "--word", "a.safetensors", "--word", "b.safetensors"),
        ),
        ("said", ("--negative", "a red house")),
        ("plain", ()),
    ):
        result = evoken(*command, *more, "--output", name)
        assert result.exit_code == 0, result.output
    words, said, plain = (
        next(Path(f).glob("*-00.png")).read_bytes() for f in ("words", "said", "plain")
    )
    assert words == said != plain
    refused(evoken(*command, "--negative", "a", "--guidance", 1), "--negative", "--guidance")


def test_two_words_stand_in_the_target_of_an_edit(tiny_folder: Path, photos: Path) -> None:
    width = 2 * tiny.WIDTH
    for i, name in enumerate("ab"):
        vectors = torch.randn(1, width, generator=torch.Generator().manual_seed(i))
        encoders = {"clip_l": tiny.WIDTH, "clip_g": tiny.WIDTH}
        save_word(f"{name}.safetensors", Word(f"<{name}>", vectors, encoders))
    words = ("--word", "a.safetensors", "--word", "b.safetensors")
    small = ("--model", tiny_folder / "flow", "--steps", 3, "--last", 2, "--iterations", 1)
    result = evoken(
        "edit",
        photos / "0.png",
        "--from",
        "a cat",
        "--to",
        "a <a> <b>",
        *words,
        *small,
        "--output",
        "two",
    )
    assert result.exit_code == 0, result.output
    assert Path("two/word.safetensors").exists() and Path("two/word-1.safetensors").exists()
    noise = Path("two/noise.safetensors").read_bytes()
    lines = Path("two/records.jsonl").read_text().splitlines(keepends=True)
    Path("two/records.jsonl").write_text(lines[0])
    assert evoken("edit", "--resume", "two").exit_code == 0
    assert Path("two/noise.safetensors").read_bytes() == noise


@pytest.mark.parametrize("ends", ["", "-steps-500"])
@pytest.mark.parametrize("given", ["folder", "first", "second"])
def test_the_two_files_of_the_sdxl_script_are_one_word(ends: str, given: str) -> None:
    folder = Path("word")
    folder.mkdir()
    first, second = torch.randn(2, 768), torch.randn(2, 1280)
    files = [folder / f"learned_embeds{part}{ends}.safetensors" for part in ("", "_2")]
    for file, vectors in zip(files, (first, second), strict=True):
        save_file({"<toy>": vectors}, file)
    path = {"folder": folder, "first": files[0], "second": files[1]}[given]
    word = load_word(path)
    assert word.placeholder == "<toy>" and dict(word.encoders) == {"clip_l": 768, "clip_g": 1280}
    assert torch.equal(word.vectors, torch.cat([first, second], 1))
    assert "Stable Diffusion XL" in evoken("inspect", path).output
    assert evoken("convert", path, "--to", "comfyui", "--output", "out").exit_code == 0
    assert torch.equal(load_word(next(Path("out").iterdir())).vectors, word.vectors)


def test_the_newest_of_a_scripts_steps_is_the_word_of_its_folder() -> None:
    folder = Path("word")
    folder.mkdir()
    for step in (500, 1000, 1500):
        save_file(
            {"<toy>": torch.full((1, 768), step / 1000)},
            folder / f"learned_embeds-steps-{step}.safetensors",
        )
    assert float(load_word(folder).vectors[0, 0]) == 1.5


def test_two_files_that_are_no_one_word_are_refused() -> None:
    save_file({"<toy>": torch.zeros(1, 768)}, "learned_embeds.safetensors")
    save_file({"<toy>": torch.ones(1, 768)}, "learned_embeds_2.safetensors")
    with pytest.raises(WordError, match="learned_embeds_2"):
        load_word("learned_embeds.safetensors")
