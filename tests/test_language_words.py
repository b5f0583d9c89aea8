"""Words in language models: where they go in a prompt, what they touch there, and how their files
are used elsewhere.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evoken.errors import WordError
from evoken.models.bases import BASES, CHROMA, Base
from evoken.models.families.prompted import PromptedFlow
from evoken.models.language import PROBE
from evoken.words.convert import LANGUAGE, TOOLS, convert, diffusers_usage
from evoken.words.files import read_embedding
from evoken.words.layouts import Embedding, told_by_width
from tests import other_tools
from tests.own_pipelines import PIPELINES, SPEC, tokens_of_each
from tests.words import same, vectors

pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")
FAMILIES = ("klein-base", "flux-2-dev", "z-image", "qwen-image", "sana", "lumina-2")
PAGE = (Path(__file__).parent.parent / "docs" / "formats.md").read_text(encoding="utf-8")
BASE_OF = {base.pipeline: base for base in reversed(BASES)}


@pytest.fixture(params=(*FAMILIES, "chroma"))
def model(request: pytest.FixtureRequest) -> PromptedFlow:
    own = PIPELINES[request.param]
    found = own.family(own.build(), SPEC)
    assert isinstance(found, PromptedFlow)
    return found


def word_of(model: PromptedFlow, count: int = 1) -> dict[str, torch.Tensor]:
    return {"<disc>": vectors(model.width, count)[None]}


def test_a_word_that_is_a_token_is_read_as_that_token(model: PromptedFlow) -> None:
    """Also beside other marks, of which T5 reads a space before; and at both ends."""
    cat, marks = {"<disc>": model.embed("cat")[None]}, "the {}, a house and a {}."
    for prompt in ("a photo of a {} on the beach", "a {}", marks)[: 2 + (not is_t5(model))]:
        found = model.condition([prompt.format(*["<disc>"] * 2)], cat)
        expected = model.condition([prompt.format(*["cat"] * 2)])
        torch.testing.assert_close(found, expected)


def is_t5(model: PromptedFlow) -> bool:
    return "t5xxl" in model.encoders


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("count", "placeholder"), [(1, "<disc>"), (3, "<disc>"), (2, "<Disc>")])
def test_the_code_for_diffusers_gives_its_pipeline_the_word(
    name: str, count: int, placeholder: str, tmp_path: Path
) -> None:
    own = PIPELINES[name]
    pipe, model = own.build(), own.family(own.build(), SPEC)
    base = BASE_OF[type(pipe).__name__]
    (key,) = base.widths
    word = vectors(model.width, count)
    save_file({key: word}, tmp_path / "word.safetensors")
    code = diffusers_usage(tmp_path / "word.safetensors", placeholder, base, {key: key}, count)
    exec(code.replace(".tokenizer.tokenizer", ".tokenizer"), {"pipe": pipe})  # see save_flux_2_dev
    tokens = placeholder + "".join(f"{placeholder}_{i}" for i in range(1, count))
    prompts = ["a photo of a {} on the beach", "{}", "a cat and the {}"]
    expected = tokens_of_each(pipe, [p.format(tokens) for p in prompts])
    words = {placeholder: word[None]}
    found = model.condition([p.format(placeholder) for p in prompts], words)
    for one, hidden in zip(expected, found, strict=True):
        torch.testing.assert_close(hidden[: len(one), :-1], one, rtol=1e-4, atol=1e-5)


def test_no_word_is_no_end_of_the_message_that_a_prompt_is_in(model: PromptedFlow) -> None:
    """T5 ends every prompt with a token; where a tokenizer ends none, nothing is zeros."""
    nothing, text = model.nothing(), model.text
    if is_t5(model):
        end = text.table.weight[text.tokenizer.eos_token_id].detach().float()
        assert torch.equal(nothing[0], end)
    else:
        assert nothing.shape == (1, model.width) and not nothing.any()
    hidden = model.condition(["a photo of a <disc>"], {"<disc>": nothing[None]})
    assert hidden.isfinite().all()


def test_what_a_word_touches_is_read_as_if_it_were_not_there(model: PromptedFlow) -> None:
    """A tokenizer would make one token of "<" and of a mark before it, or of letters behind ">"."""
    text, form = model.text, model.text.form
    head, tail = form.write(PROBE).split(PROBE)
    starts = bool(text.tokenizer.bos_token) and head.startswith(text.tokenizer.bos_token)
    for before, after in (("a.", ",b"), ('"', '"'), ("un", "able"), ("a  ", "'s"), ("(", ")")):
        row = text.row(f"{before}<disc>{after}", {"<disc>": 2}, form)
        found = [i for i, said in zip(row.ids, row.said, strict=True) if said]
        first = ([] if starts else text._start) + text._ids((head + before).rstrip(" "))
        assert found == [*first, 0, 0, *text._ids(after + tail), *text._end]
        ((place, _),) = row.places
        assert row.ids[place : place + 2] == [0, 0] and row.said[place]


def test_a_name_that_the_instruction_has_too_is_placed_in_the_prompt(model: PromptedFlow) -> None:
    """A word called as something that stands around every prompt."""
    for name in ("user", "image", "prompt", "User", "AI"):
        row = model.text.row(f"a {name}", {name: 1}, model.text.form)
        assert len(row.places) == 1 and row.places[0][1] == name


def test_a_prompt_beyond_the_encoder_is_refused_with_its_word(model: PromptedFlow) -> None:
    with pytest.raises(WordError, match=f"at most {model.prompt_room} tokens") as caught:
        model.condition(["red house " * 60 + "<disc>"], word_of(model))
    assert "Shorten it" in caught.value.fix
    whole = model.condition(["<disc> " + "red house " * 60], word_of(model))
    assert whole.isfinite().all()  # what is behind the word is cut off, as the pipeline does it


def test_special_tokens_are_no_words(model: PromptedFlow) -> None:
    for token in model.text.tokenizer.all_special_tokens:
        assert model.has_token(token)


# Files


NEW = (*LANGUAGE, CHROMA)


def written(base: Base, tool: str, count: int, folder: Path) -> tuple[Embedding, Path]:
    """A word for a base, and its file for a program."""
    ((key, width),) = base.widths.items()
    about = {"architecture": base.architecture}
    word = Embedding("<cat>", {key: vectors(width, count)}, about, "encoders")
    converted = convert(word, tool, folder)
    converted.write()
    return word, converted.path


@pytest.mark.parametrize("base", NEW, ids=lambda base: base.name)
@pytest.mark.parametrize("count", [1, 3])
def test_a_word_goes_by_the_name_of_its_encoder(base: Base, count: int, tmp_path: Path) -> None:
    for tool, takes in TOOLS.items():
        if base not in takes:
            with pytest.raises(WordError, match=f"got one for {base.name}"):
                written(base, tool, count, tmp_path)
            continue
        word, path = written(base, tool, count, tmp_path / tool)
        found = read_embedding(path)
        assert same(found.vectors, word.vectors) and found.bases == (base,)
        if base in LANGUAGE:
            assert not told_by_width(word.widths) and set(load_file(path)) == set(base.widths)


@pytest.mark.parametrize("base", NEW, ids=lambda base: base.name)
def test_what_loads_a_word_is_as_the_page_says(base: Base, tmp_path: Path) -> None:
    ((key, width),) = base.widths.items()
    word, path = written(base, "diffusers", 3, tmp_path)
    needed = other_tools.COMFY_ENCODERS.get(base.name)
    if needed:
        found = other_tools.comfyui(path, base.name)
        assert torch.equal(found[key], word.vectors[key])
    assert bool(needed) == (base in TOOLS["comfyui"])
    code = "as tokens" if base in LANGUAGE else "yes"
    comfy = "no such model" if needed is None else "yes" if needed else "**no**: read as text"
    label = f"`{{{key}: [n, {width:,}]}}`" if base in LANGUAGE else f'`{{"<cat>": [n, {width:,}]}}`'
    rows = (line for line in PAGE.splitlines() if line.startswith("| `{"))
    assert any(r.startswith(f"| {label} | {base.name} | {code} | {comfy} |") for r in rows)


def test_diffusers_loads_words_of_chroma_itself(tmp_path: Path) -> None:
    own = PIPELINES["chroma"]
    pipe, model = own.build(), own.family(own.build(), SPEC)
    word = vectors(model.width, 2)
    save_file({"<disc>": word}, tmp_path / "learned_embeds.safetensors")
    pipe.load_textual_inversion(str(tmp_path))
    ids = pipe.tokenizer.convert_tokens_to_ids(["<disc>", "<disc>_1"])
    assert torch.equal(pipe.text_encoder.get_input_embeddings().weight[ids], word)
