"""What is read once for all candidates, and what of a prompt is not read at all: within rounding
the same as the plain way.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from evoken.models.families.flux import Flux
from evoken.models.families.prompted import PromptedFlow
from evoken.models.pipelines import load_pipeline
from evoken.models.text import TextEncoder
from tests.own_pipelines import SPEC

CAUSAL = ("klein-base", "z-image", "qwen-image", "sana", "lumina-2")
# The states of FLUX.2 dev's padding, which comes first, are made of everything.
WHOLE = ("chroma", "flux-2-dev")
# Chroma takes a class from where diffusers itself says not to.
pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")
WORD = "<disc>"
PROMPTS = [f"a photo of a {WORD} on the beach", f"the {WORD}", f"a {WORD} and a red {WORD}"]


def lengths_read(layer: nn.Module) -> list[tuple[int, ...]]:
    """Rows and tokens of what a layer of a language model is given, call by call."""
    found: list[tuple[int, ...]] = []
    layer.register_forward_pre_hook(
        lambda _, args, inputs: found.append((args or tuple(inputs.values()))[0].shape[:2]),
        with_kwargs=True,
    )
    return found


@pytest.mark.parametrize("family", CAUSAL)
def test_what_comes_before_the_word_is_read_once(tiny_folder: Path, family: str) -> None:
    model = load_pipeline(str(tiny_folder / family), SPEC)
    assert isinstance(model, PromptedFlow)
    words = torch.randn(18, 1, model.width, generator=torch.Generator().manual_seed(0))
    words *= model.vocabulary().vectors.std()
    plain = torch.stack([model.condition(PROMPTS, {WORD: word[None]}) for word in words])
    read = lengths_read(model.text.encoder.layers[0])
    found = model.condition(PROMPTS, {WORD: words}).unflatten(0, (18, -1))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)
    rows = [model.text.row(prompt, {WORD: 1}, model.text.form) for prompt in PROMPTS]
    begun = sum(row.places[0][0] for row in rows)
    tokens = sum(len(row.ids) for row in rows)
    assert sum(count * length for count, length in read) == 18 * tokens - 17 * begun


@pytest.mark.parametrize("family", WHOLE)
def test_what_the_word_changes_everywhere_is_read_whole(tiny_folder: Path, family: str) -> None:
    model = load_pipeline(str(tiny_folder / family), SPEC)
    assert isinstance(model, PromptedFlow)
    row = model.text.row(PROMPTS[0], {WORD: 1}, model.text.form)
    assert row.places and not model.text._alike(row)


def test_the_summary_of_a_prompt_needs_no_padding(tiny_folder: Path) -> None:
    model = load_pipeline(str(tiny_folder / "flux"), SPEC)
    assert isinstance(model, Flux)
    short = model.texts.encoders["clip_l"]
    whole = TextEncoder(short.encoder, short.tokenizer, SPEC)
    words = {WORD: torch.randn(3, 1, short.width, generator=torch.Generator().manual_seed(0))}
    seen: list[int] = []

    def pooled(out: object) -> Tensor:
        seen.append(out.last_hidden_state.shape[1])  # type: ignore[attr-defined]
        found: Tensor = out.pooler_output  # type: ignore[attr-defined]
        return found

    found, expected = (text.encode(PROMPTS, words, pooled) for text in (short, whole))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    longest = max(short.count_tokens(p.replace(WORD, "cat")) for p in PROMPTS) + 2
    assert seen == [longest, whole.room]
