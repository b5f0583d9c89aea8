"""Words in some of a family's text encoders, and in all of them: each program takes what is written
for it, as its own rules say; what it would not take is refused.
"""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from evoken.errors import WordError
from evoken.models.bases import CHROMA, SD3, SDXL, encoder_of_width
from evoken.models.encoders import TextEncoders
from evoken.models.text import TextEncoder
from evoken.prompts import without
from evoken.spec import ModelSpec
from evoken.words.convert import Converted, convert
from evoken.words.files import read_embedding
from evoken.words.layouts import Embedding
from tests import other_tools
from tests.other_tools import RefusedError
from tests.test_other_tools import TOKEN, embedded, pipeline
from tests.words import BASE_OF, WIDTHS, same, vectors

SETS = [
    (base, names)
    for base in ("SDXL", "SD3", "FLUX")
    for count in (1, 2, 3)
    for names in combinations(BASE_OF[base].widths, count)
]


def word(base: str, names: tuple[str, ...], header: bool = True) -> Embedding:
    """Of two vectors."""
    about = {"architecture": BASE_OF[base].architecture} if header else {}
    return Embedding(TOKEN, {name: vectors(WIDTHS[name], 2) for name in names}, about, "encoders")


def refusal(one: Embedding, tool: str) -> str:
    try:
        convert(one, tool, Path())
    except WordError as error:
        return str(error)
    return ""


def written(one: Embedding, tool: str, folder: Path) -> Converted:
    converted = convert(one, tool, folder)
    converted.write()
    return converted


def heard(tool: str, path: Path, base: str) -> dict[str, Tensor]:
    """The vectors that a program's encoders get of a file, by encoder; none if it is not loaded, or
    for another base.
    """
    try:
        found: Any = getattr(other_tools, tool)(*(path, base)[: 1 if tool == "invokeai" else 2])
    except RefusedError:
        return {}
    if tool == "invokeai":
        taken, found = found
        found = found if taken == base else None
    named = {name or encoder_of_width(v.shape[-1]): v for name, v in (found or {}).items()}
    return {name: named[name] for name in WIDTHS if name in named}


@pytest.mark.parametrize("tool", ["a1111", "forge", "comfyui", "invokeai"])
@pytest.mark.parametrize(("base", "names"), SETS)
def test_a_program_reads_what_is_written_and_the_rest_is_refused(
    base: str, names: tuple[str, ...], tool: str, tmp_path: Path
) -> None:
    one, known = word(base, names), BASE_OF[base].widths
    if refused := refusal(one, tool):
        path = written(one, "comfyui", tmp_path).path  # the same file for all, where they load it
        assert heard(tool, path, base) == {}
        assert " + ".join(names) in refused or one.purpose in refused
        assert "comfyui" in refused
        return
    converted = written(one, tool, tmp_path)
    found = heard(tool, converted.path, base)
    # T5 is deaf for words in A1111 and in Forge, and no other vector is lost.
    deaf = {"t5xxl"} if tool in ("a1111", "forge") else set()
    assert found and same(found, {n: v for n, v in one.vectors.items() if n not in deaf})
    # Of encoders that do without the word, there is a caution.
    assert (set(found) == set(known)) == (converted.caution == "")
    for name in known:
        assert (name in converted.caution) == (converted.caution != "")
    again = read_embedding(converted.path)
    assert again.bases == (BASE_OF[base],) and again.placeholder == TOKEN


@pytest.mark.parametrize(("base", "names"), [s for s in SETS if s[0] != "SD3"])
def test_diffusers_reads_the_word_as_we_do(
    base: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    """Into its encoders; the end of text stays, and the other encoder reads as the caution says."""
    one, known = word(base, names), tuple(BASE_OF[base].widths)
    converted = written(one, "diffusers", tmp_path)
    pipe = pipeline(base)
    exec(converted.usage, {"pipe": pipe})
    for name, part in zip(known, ("", "_2"), strict=True):
        text_encoder, tokenizer = (getattr(pipe, p + part) for p in ("text_encoder", "tokenizer"))
        assert (TOKEN in tokenizer.get_vocab()) == (name in names)
        if name in names:
            assert torch.equal(embedded(text_encoder, tokenizer, TOKEN, 2), one.vectors[name])
    for i, advice in enumerate(
        (
            "a prompt with the word and a prompt_2 without it",
            "a prompt_2 with the word and a prompt without it",
        )
    ):
        assert (advice in converted.caution) == (names == (known[i],))
    pooled = "clip_g" if base == "SDXL" else "clip_l"
    assert ("eos_token_id" in converted.usage) == (pooled in names)
    prompts = [PROMPT if name in names else PROMPT.replace(TOKEN, "") for name in known]
    size = {"max_sequence_length": 16} if base == "FLUX" else {}
    found = pipe.encode_prompt(*prompts, device="cpu", num_images_per_prompt=1, **size)
    for name, expected in as_we_read(base, one).items():
        at = {"FLUX": found[1], "SDXL": found[0][..., :768] if name == "clip_l" else found[2]}[base]
        torch.testing.assert_close(
            at[:, None] if at.ndim == 2 else at, expected, rtol=1e-4, atol=1e-5
        )


PROMPT = f"a photo of a {TOKEN} on the beach"
# What a pipeline takes of its CLIP encoders. The T5 here has no tokenizer of its own.
READS: dict[str, dict[str, Callable[[Any], Tensor]]] = {
    "SDXL": {
        "clip_l": lambda out: out.hidden_states[-2],
        "clip_g": lambda out: out.text_embeds[:, None],
    },
    "FLUX": {"clip_l": lambda out: out.pooler_output[:, None]},
}


def as_we_read(base: str, one: Embedding) -> dict[str, Tensor]:
    """What evoken takes of each CLIP encoder for PROMPT with the word."""
    pipe, reads = pipeline(base), READS[base]
    encoders = {"clip_l": TextEncoder(pipe.text_encoder, pipe.tokenizer, ModelSpec())}
    if "clip_g" in reads:
        encoders["clip_g"] = TextEncoder(pipe.text_encoder_2, pipe.tokenizer_2, ModelSpec())
    names = [name for name in one.vectors if name in reads]
    row = torch.cat([one.vectors[name] for name in names], 1)[None] if names else None
    words = {} if row is None else {TOKEN: row}
    prompt = PROMPT if names else without(PROMPT, [TOKEN])
    return TextEncoders(encoders, "", names).encode([prompt], words, reads)


def test_without_a_header_a_word_is_for_the_first_base_that_the_program_loads(
    tmp_path: Path,
) -> None:
    for base, names, tool, expected in (
        ("SDXL", ("clip_g",), "comfyui", SDXL),
        ("SDXL", ("clip_g",), "forge", SD3),
        ("FLUX", ("t5xxl",), "comfyui", CHROMA),
    ):
        one = word(base, names, header=False)
        with safe_open(written(one, tool, tmp_path / tool / base).path, "pt") as file:
            header = file.metadata()
        assert header["modelspec.architecture"].startswith(expected.architecture)
