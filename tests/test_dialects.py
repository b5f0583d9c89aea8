"""What other programs read in prompts is told to those who type it, and plain text is not."""

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import evoken as evoken_api
from evoken.dialects import KINDS, notes
from evoken.errors import PromptWarning
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.words.word import Word, save_word
from tests.commands import evoken
from tests.words import vectors

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.parametrize(
    ("prompt", "example", "what"),
    [
        ("a <dog1> on the beach", "<dog1>", "with `word`"),
        ("a <my old dog>", "<my old dog>", "learned word"),
        ("two <s1><s2>", "<s1>", "learned word"),
        ("a photo of embedding:cat, blue", "embedding:cat", "with `word`"),
        ("(cat:1.3)", "(cat:1.3)", "no weights"),
        ("a (cat2 : 0.8) here", "(cat2 : 0.8)", "no weights"),
        ("(a red house:2)", "(a red house:2)", "no weights"),
        ("(cat:.5)", "(cat:.5)", "no weights"),
        ("a ((blue)) house", "((blue))", "leave out the brackets"),
        ("a (((blue))) house", "((blue)))", "leave out the brackets"),
        ("a [blue] house", "[blue]", "leave out the brackets"),
        ("a [cat:dog:0.5]", "[cat:dog:0.5]", "between steps"),
        ("a cat <lora:films:0.7>", "<lora:films:0.7>", "LoRAs cannot be used"),
        ("<hypernet:x:1>", "<hypernet:x:1>", "LoRAs"),
        ("a {red|blue} house", "{red|blue}", "one of the choices"),
        ("a {2$$red|blue|green}", "{2$$red|blue|green}", "one of the choices"),
        ("a __colour__ house", "__colour__", "one of the choices"),
        ("a cat BREAK a dog", "BREAK", "read as one"),
        ("a cat AND a dog", "AND", "type a comma or 'and'"),
        (r"a cat \(animal\)", r"\(", "bracket alone"),
    ],
)
def test_what_means_something_elsewhere_is_told(prompt: str, example: str, what: str) -> None:
    found = notes([prompt])
    assert len(found) == 1 and what in found[0]
    assert f"{example!r}".replace("'", "") in found[0].replace("'", "")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a cat (sleeping)",
        "i <3 you",
        "i <3 you and you > me",
        "a < b > c",
        "an arrow <-> here, -> and <-",
        "a picture (3:2)",
        "a clock (at 10:30)",
        "John (3:16)",
        "a cat: sleeping (on a mat: red)",
        "smile :) :(( ;))",
        "a cat and a dog, break of day",
        "A CAT AND A DOG",
        'a sign that says "BREAK THE ICE" in a bar',
        "the band ROCK AND ROLL on stage",
        "embedding: a layer of stone",
        "a file my__name",
        "[] {} () <> {a}",
        "50 % | 50 %",
        "C++ code, f(x)",
        "BREAKFAST and SAND",
        "une tasse (café), 猫（睡觉）",
    ],
)
def test_plain_text_gets_no_note(prompt: str) -> None:
    assert notes([prompt]) == []


def test_words_that_are_given_are_read_as_meant() -> None:
    given = ["<cat>", "[dog]", "embedding:cow"]
    assert notes(["a <cat>, a [dog] and embedding:cow"], given) == []
    found = notes(["a (<cat>:1.3) and a <cats>"], given)
    assert len(found) == 2 and "'<cats>'" in found[0] and "'(<cat>:1.3)'" in found[1]


def test_two_kinds_in_one_place_are_two_notes() -> None:
    found = notes(["a (embedding:bad:1.2)"])
    assert len(found) == 2 and "ComfyUI" in found[0] and "'(embedding:bad:1.2)'" in found[1]


def test_one_note_for_a_kind_and_none_twice() -> None:
    found = notes(["(a:1.1), (b:1.2)", "(c:1.3) <x>", "(a:1.1), (b:1.2)"])
    assert len(found) == 2 and "'<x>'" in found[0] and "'(a:1.1)'" in found[1]


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=4), max_size=2))
def test_any_prompt_can_be_looked_at(prompt: str, placeholders: list[str]) -> None:
    found = notes([prompt], placeholders)
    assert len(found) <= len(KINDS)
    assert all(line.isprintable() for line in found)


def test_a_long_prompt_is_looked_at_in_no_time() -> None:
    for part in ("(", "((", "[a", "{a", "(a:", "<a ", "__a", r"\(", "BREAK ", "<lora:"):
        notes([part * 5000])


# The commands.


def test_generate_tells_of_the_prompt_and_of_the_negative_one(tiny_folder: Path) -> None:
    save_word("cat.safetensors", Word("<cat>", vectors(16)))
    command = (
        *("generate", "a (<cat>:1.3) and a <dog1>", "--negative", "embedding:bad"),
        *("--word", "cat.safetensors", "--model", tiny_folder / "model"),
        *("--count", 1, "--steps", 1),
    )
    result = evoken(*command)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("Note: ")]
    assert [line.split("'")[1] for line in lines] == ["embedding:bad", "<dog1>", "(<cat>:1.3)"]
    assert "with --word." in lines[0] and "`" not in result.output
    result = evoken(*command, "--json")
    assert json.loads(result.stdout) and "Note: '<dog1>'" in result.stderr


def test_edit_and_invert_tell_of_their_prompts(tiny_folder: Path, photos: Path) -> None:
    small = ("--model", tiny_folder / "flow", "--steps", 2, "--iterations", 1)
    result = evoken("edit", photos / "0.png", "--from", "a cat", "--to", "a [blue] cat", *small)
    assert result.exit_code == 0 and "Note: '[blue]'" in result.output, result.output
    result = evoken("invert", photos / "0.png", "--prompt", "a (cat) AND a dog", *small)
    assert result.exit_code == 0 and "Note: 'AND'" in result.output, result.output
    Path("all.yaml").write_text(
        f"- init_img: {photos / '0.png'}\n  source_prompt: a cat\n"
        '  target_prompts: ["a {red|blue} cat"]\n'
    )
    result = evoken("edit", "all.yaml", *small)
    assert result.exit_code == 0 and "Note: '{red|blue}'" in result.output, result.output


def places(told: Iterable[warnings.WarningMessage]) -> list[str]:
    return [one.filename for one in told if one.category is PromptWarning]


def test_from_python_it_is_a_warning_at_the_line_of_the_call(
    model: StableDiffusion, tiny_folder: Path, photos: Path
) -> None:
    with pytest.warns(PromptWarning, match=r"'\(cat:1.3\)' is a weight") as told:
        evoken_api.draw(model, "a (cat:1.3)", count=1, steps=1)
    assert places(told) == [__file__]
    flow = str(tiny_folder / "flow")
    with pytest.warns(PromptWarning, match="'AND' joins") as told:
        evoken_api.invert_into("run", photos / "0.png", "cat AND dog", flow, steps=2, iterations=1)
    assert places(told) == [__file__]
