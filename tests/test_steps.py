"""How long the first steps of a search are, and which models hear how long a word is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from evoken.arrays import NO_WORDS, Hidden, Words
from evoken.models.base import Model, Vocabulary
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from evoken.textual_inversion.hearing import hears_length
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import LearnSettings, preset
from evoken.textual_inversion.steps import first_steps, would_be_shorter


@dataclass
class Reads:
    """A text encoder alone: what it gives of a word."""

    how: str

    def vocabulary(self) -> Vocabulary:
        words = tuple(str(i) for i in range(8))
        return Vocabulary(words, torch.randn(8, 6, generator=torch.manual_seed(0)), (6,))

    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        (vectors,) = words.values()
        turned = torch.nn.functional.normalize(vectors, dim=-1)
        if self.how == "much beside":  # what deep encoders give is longer than embeddings
            others = torch.linspace(1, 2, len(vectors))[:, None, None] * 300 * turned
            return torch.cat([others.repeat(1, 70, 1), vectors + others], 1)
        return {
            "direction": turned,
            "as it is": vectors,
            "nothing": torch.zeros_like(vectors),
            "no number": vectors * torch.nan,
        }[self.how]


@pytest.mark.parametrize(
    ("given", "sigma"),
    [
        ({}, 30.0),
        ({"fidelity": 2.0}, 0.3),  # longer steps would only turn the word
        ({"fidelity": 1000.0}, 30.0),
        ({"fidelity": 2.0, "sigma": 5.0}, 5.0),
        ({"search": "cma"}, 3.0),
        ({"search": "cma", "fidelity": 2.0}, 0.3),
        ({"search": "cma", "fidelity": 1.0}, 0.15),
        ({"search": "sep-cma"}, 30.0),
        ({"search": "cma", "objective": "similarity"}, 0.3),
        ({"search": "random", "sigma": 0.2}, 0.2),
        ({"preset": "paper"}, 0.5),
    ],
)
def test_they_suit_the_search_and_the_limit_of_length(given: dict[str, Any], sigma: float) -> None:
    settings = LearnSettings(placeholder="<cat>", **given)
    assert first_steps(settings, length_heard=False) == pytest.approx(sigma)
    heard = sigma if "sigma" in given or "preset" in given else min(sigma, 0.3)
    assert first_steps(settings, length_heard=True) == pytest.approx(heard)


@pytest.mark.parametrize(
    ("how", "heard"),
    [
        *(("direction", False), ("as it is", True), ("much beside", True)),
        *(("nothing", False), ("no number", True)),
    ],
)
def test_what_grows_with_a_word_hears_its_length(how: str, heard: bool) -> None:
    assert hears_length(cast(Model, Reads(how)), "<cat>") is heard


# Stable Diffusion XL and 3, FLUX.2, Z-Image and Lumina read a layer before the last, which nothing
# normalises.
@pytest.mark.parametrize("name", ["xl", "flow", "klein", "z-image", "lumina-2"])
def test_models_that_hear_how_long_a_word_is(tiny_folder: Path, name: str) -> None:
    assert hears_length(load_model(ModelSpec(str(tiny_folder / name))), "<cat>")


@pytest.mark.parametrize("name", ["model", "second", "flux", "chroma", "sana", "qwen-image"])
def test_models_that_hear_its_direction_alone(tiny_folder: Path, name: str) -> None:
    assert not hears_length(load_model(ModelSpec(str(tiny_folder / name))), "<cat>")


def test_a_run_takes_them_and_listens_if_they_are_short(
    model: StableDiffusion, tiny_folder: Path, images: torch.Tensor
) -> None:
    flow = load_model(ModelSpec(str(tiny_folder / "flow")))
    its = torch.nn.functional.interpolate(images, (flow.size, flow.size))
    asked = {}
    for name, one, seen, given, sigma in (
        ("long", model, images, {}, 30.0),
        ("short", flow, its, {}, 0.3),
        ("asked for", flow, its, {"sigma": 0.3}, 0.3),
    ):
        values: dict[str, Any] = {"initialization": "random", "calls": 2_000, **given}
        learner = Learner(preset("default", placeholder="<cat>", **values), one, seen, None)
        assert learner.search.sigma == pytest.approx(8 * sigma)
        learner.step()
        asked[name] = learner._ask()[1]
    assert not np.allclose(asked["short"], asked["asked for"])


@pytest.mark.parametrize(
    ("given", "first", "shorter"),
    [
        ({}, 240.0, True),
        ({}, 2.4, False),  # where length is heard
        ({"fidelity": 2.0}, 2.4, False),
        ({"fidelity": 1.0}, 1.2, False),
        ({"sigma": 5.0}, 40.0, False),  # which a fidelity does not change
        ({"search": "sep-cma"}, 30.0, True),
        ({"search": "zero-order"}, 0.5, True),
        ({"objective": "similarity", "search": "sep-cma"}, 0.3, False),
    ],
)
def test_a_fidelity_is_advised_where_it_shortens_steps(
    given: dict[str, Any], first: float, shorter: bool
) -> None:
    assert would_be_shorter(preset("default", placeholder="<x>", **given), first) is shorter
