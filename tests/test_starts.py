"""The start that the objective chooses."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evoken.errors import SettingError
from evoken.evaluation.evaluator import Serial
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.pipelines import load_pipeline
from evoken.spec import ModelSpec
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.starts import Starts, loss_of_nothing
from tests.test_learn import small

BUDGETS = (120, 3_000)  # of the smaller one a first round would take too much


def learner_of(model: StableDiffusion, images: torch.Tensor, clip: Clip, **changes: Any) -> Learner:
    return Learner(small(initialization="lowest", **changes), model, images, clip)


@pytest.mark.parametrize("calls", BUDGETS)
@pytest.mark.parametrize("vectors", [1, 3])
def test_it_is_never_worse_than_no_word(
    model: StableDiffusion, clip: Clip, images: torch.Tensor, calls: int, vectors: int
) -> None:
    learner = learner_of(model, images, clip, calls=calls, vectors=vectors)
    before = model.calls
    record = learner.step()
    assert learner.start.vectors.shape == (vectors, model.width)
    nothing = learner.objective.validate(model.nothing().repeat(vectors, 1))
    assert record.validation == learner.objective.validate(learner.start.vectors) <= nothing
    assert record.calls == model.calls - before - 2 * 8 + learner._setup_calls
    assert learner.generation == 0 and learner.best_validation == record.validation
    assert record.calls <= 0.05 * calls + 3 * 8 + learner._setup_calls


def test_an_end_token_says_nothing(model: StableDiffusion, tiny_folder: Path) -> None:
    """At the end of a prompt of CLIP it is what stands there anyway."""
    word = model.condition(["a photo of a <x>"], {"<x>": model.nothing()[None]})
    torch.testing.assert_close(word, model.condition(["a photo of a"]))
    for name in ("xl", "flow"):  # one for each encoder that a word lives in
        other = load_pipeline(str(tiny_folder / name), ModelSpec("tiny", size=16))
        assert other.nothing().shape == (1, other.width)


def test_the_first_round_chooses_who_is_in_the_second(model: StableDiffusion) -> None:
    vocabulary = model.vocabulary()
    found = vocabulary.vectors[:6, None]
    starts = Starts(found, vocabulary)
    first = np.array([0.9, 0.5, np.nan, 0.2, 0.7, 0.3])
    for second, expected in (([0.1, 0.2, 0.3], found[0]), ([0.4, 0.2, 0.3], found[3])):
        start, loss = starts.chosen(np.array([*first, *second]))
        assert torch.equal(start, expected) and loss == min(second)
    mixed, _ = starts.chosen(np.array([*first, 0.5, np.nan, 0.3]))
    mean = found[[3, 5, 1, 4]].mean(0)
    assert torch.nn.functional.cosine_similarity(mixed, mean).item() == pytest.approx(1, abs=1e-5)
    typical = vocabulary.vectors.norm(dim=1).median()
    torch.testing.assert_close(mixed.norm(dim=1), typical[None])


@pytest.mark.parametrize("calls", BUDGETS)
def test_a_resumed_run_knows_its_start_from_its_records(
    model: StableDiffusion, clip: Clip, images: torch.Tensor, calls: int
) -> None:
    learner = learner_of(model, images, clip, calls=calls)
    records = [learner.step() for _ in range(3)]
    again = learner_of(model, images, clip, calls=calls)
    before = model.calls
    again.replay(records)
    assert model.calls == before and torch.equal(again.start.vectors, learner.start.vectors)
    assert torch.equal(again.vectors, learner.vectors)


def test_what_it_takes_is_known_beforehand(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    for calls in BUDGETS:
        learner = learner_of(model, images, clip, calls=calls)
        assert learner._starts is not None
        found = learner._starts.evaluated(learner.objective, Serial(learner.objective))
        assert found.calls == learner._starts.calls(learner.objective)
        assert len(found.losses) == learner._starts.first + learner._starts.second
        nothing = learner.objective.validate(model.nothing())
        assert loss_of_nothing([*found.losses]) == nothing
    assert loss_of_nothing([]) is None


def test_the_smallest_budget_that_is_told_is_enough_and_one_less_is_not(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    with pytest.raises(SettingError) as told:
        learner_of(model, images, clip, calls=1)
    (least,) = re.findall(r"at least (\d+),", told.value.problem)
    assert learner_of(model, images, clip, calls=int(least)).generations == 1
    with pytest.raises(SettingError, match=f"at least {least},"):
        learner_of(model, images, clip, calls=int(least) - 1)


def test_the_limit_of_length_is_that_of_the_chosen_start(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    learner = learner_of(model, images, clip, calls=400, fidelity=1.0)
    learner.step()
    ((_, longest),) = learner.subspace.longest
    typical = float(model.vocabulary().vectors.norm(dim=1).median())
    own = float(learner.start.vectors.norm(dim=1).max())
    assert longest == pytest.approx(max(typical, own))


@pytest.mark.parametrize("mistake", ["unit-norm", "added-mean", "no-temperature"])
def test_mistakes_in_a_start_need_one_that_is_given(mistake: str) -> None:
    with pytest.raises(SettingError, match="initialization"):
        small(initialization="lowest", mistakes=(mistake,))
