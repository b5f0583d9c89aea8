import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evoken.errors import SearchError, SettingError, WordError
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.pipelines import load_pipeline
from evoken.search.table import SEARCHES
from evoken.spec import ModelSpec
from evoken.textual_inversion.learn import Learner, Record, calls_in_all, learn
from evoken.textual_inversion.settings import (
    MISTAKES,
    PRESETS,
    LearnSettings,
    preset,
)
from evoken.textual_inversion.subspace import SUBSPACES

SMALL: dict[str, Any] = {
    "placeholder": "<disc>",
    "subspace": "pca",
    "axes": 8,
    "popsize": 5,
    "draws": 4,
    "sentences": 2,
    "validation_draws": 8,
    "calls": 120,
}


def small(**changes: Any) -> LearnSettings:
    return LearnSettings(**SMALL | changes)


def finished(
    settings: LearnSettings, model: StableDiffusion, images: torch.Tensor, clip: Clip
) -> tuple[Learner, list[Record]]:
    steps = list(learn(settings, model, images, clip))
    return steps[-1][0], [r for _, r in steps]


def same(a: Record, b: Record) -> bool:
    return replace(a, seconds=0.0) == replace(b, seconds=0.0)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    model: StableDiffusion, clip: Clip, images: torch.Tensor, search: str
) -> None:
    settings = small(search=search)
    whole, records = finished(settings, model, images, clip)
    assert len(records) == 1 + (120 - 2 * 8) // (5 * 4 + 8)
    stored = [Record.from_dict(r.to_dict()) for r in records[:3]]
    steps = list(learn(settings, model, images, clip, stored))
    resumed = steps[-1][0]
    assert all(same(a, b) for a, b in zip(records[3:], [r for _, r in steps], strict=True))
    assert torch.equal(resumed.vectors, whole.vectors)
    assert resumed.best_generation == whole.best_generation


@pytest.mark.parametrize("search", SEARCHES)
def test_the_batch_changes_no_bit_of_a_run(
    tiny_folder: Path, clip: Clip, images: torch.Tensor, search: str
) -> None:
    runs = []
    for batch in (3, 64):
        model = load_pipeline(str(tiny_folder / "model"), ModelSpec("tiny", batch=batch))
        runs.append(finished(small(search=search), model, images, clip))
    assert torch.equal(runs[0][0].vectors, runs[1][0].vectors)
    assert all(same(a, b) for a, b in zip(runs[0][1], runs[1][1], strict=True))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("subspace", SUBSPACES)
def test_every_search_learns_in_every_subspace(
    model: StableDiffusion, clip: Clip, images: torch.Tensor, subspace: str, search: str
) -> None:
    vectors = 1 + SUBSPACES.index(subspace) % 2
    settings = small(subspace=subspace, axes=0, vectors=vectors, search=search)
    learner, records = finished(settings, model, images, clip)
    assert learner.vectors.shape == (vectors, model.width)
    assert learner.best_validation <= records[0].validation


def test_the_result_is_the_centre_with_the_least_validation_loss(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    learner, records = finished(small(search="cma"), model, images, clip)
    best = min(records, key=lambda r: r.validation)
    assert learner.best_generation == best.generation
    assert learner.objective.validate(learner.vectors) == best.validation


def test_the_budget_is_kept_and_counted(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    before = model.calls
    _, records = finished(small(calls=300), model, images, clip)
    assert model.calls - before == records[-1].calls <= 300
    assert records[-1].calls > 300 - (5 * 4 + 8)


def test_a_budget_of_time_ends_a_run(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    settings = small(calls=10**9, minutes=0.02)
    _, records = finished(settings, model, images, clip)
    assert records[-2].seconds < 1.2 <= records[-1].seconds


@pytest.mark.parametrize("calls", [1, 20])
def test_a_budget_for_less_than_a_generation_is_refused(
    model: StableDiffusion, clip: Clip, images: torch.Tensor, calls: int
) -> None:
    with pytest.raises(SettingError, match="budget"):
        finished(small(calls=calls), model, images, clip)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_of_the_paper_can_be_put_back(
    model: StableDiffusion, clip: Clip, images: torch.Tensor, mistake: str
) -> None:
    base = {"search": "cma"}
    right, records = finished(small(**base), model, images, clip)
    wrong, others = finished(small(**base, mistakes=(mistake,)), model, images, clip)
    assert records[1].losses != others[1].losses or not torch.equal(right.vectors, wrong.vectors)


def test_losses_that_are_not_numbers_end_a_run_with_a_reason(
    tiny_folder: Path, clip: Clip, images: torch.Tensor
) -> None:
    model = load_pipeline(str(tiny_folder / "model"), ModelSpec("tiny"))
    with torch.no_grad():
        model.denoiser.conv_out.weight.fill_(torch.nan)
    with pytest.raises(SearchError, match="float32"):
        finished(small(), model, images, clip)


@pytest.mark.parametrize("word", ["disc", "<a disc>", "<>", "<disc", "<d/c>", "<dïsc>", ""])
def test_a_placeholder_that_some_tool_could_not_read_is_refused(
    model: StableDiffusion, clip: Clip, images: torch.Tensor, word: str
) -> None:
    with pytest.raises(WordError, match="placeholder"):
        finished(small(placeholder=word), model, images, clip)


def test_a_placeholder_of_the_vocabulary_is_refused(
    tiny_folder: Path, clip: Clip, images: torch.Tensor
) -> None:
    model = load_pipeline(str(tiny_folder / "model"), ModelSpec("tiny"))
    model.text.tokenizer.add_tokens("<disc>")
    with pytest.raises(WordError, match="vocabulary"):
        finished(small(), model, images, clip)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "shape"},
        {"search": "luck"},
        {"subspace": "x"},
        {"objective": "x"},
        {"initialization": "x"},
        {"mistakes": ("x",)},
        {"vectors": 0},
        {"popsize": 3},
        {"draws": 0},
        {"calls": 0},
        {"sigma": 1e-5},
        {"sigma": -1.0},
        {"t_low": 0.5, "t_high": 0.5},
        {"t_high": 1.1},
        {"temperature": -1.0},
        {"minutes": -1.0},
        {"seed": -1},
        {"objective": "similarity", "search": "gauss-newton"},
        {"minutes": math.inf},
        {"sigma": math.inf},
        {"temperature": math.nan},
        {"popsize": 4.5},
        {"start": 3},
        {"mistakes": ("unit-axes",), "subspace": "identity"},
        {"mistakes": ("independent-draws",), "search": "gauss-newton"},
        {"mistakes": ("no-temperature",), "initialization": "random"},
        {"mistakes": ("independent-draws",), "objective": "similarity", "search": "cma"},
        {"temperature": 1.0, "initialization": "random"},
        {"stretch": 2.0, "subspace": "pca"},
        {"stretch": 0.0, "subspace": "prior"},
        {"start": "cat", "initialization": "random"},
        {"mistakes": ("last-best",), "search": "random"},
        {"mistakes": "last-best"},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        small(**changes)


def test_lambda_stretches_the_axes_of_the_prior(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    plain, longer = (
        Learner(small(subspace="prior", stretch=by), model, images, clip).subspace.basis
        for by in (1.0, 3.0)
    )
    torch.testing.assert_close(longer, 3 * plain)


@pytest.mark.parametrize("name", ["draws", "sentences", "chunk", "t_low", "t_high", "weighting"])
def test_settings_without_effect_on_an_objective_are_refused(name: str) -> None:
    whole = {"placeholder": "<x>", "objective": "similarity", "search": "cma"}
    usual = getattr(preset("default", **whole), name)
    other = "uniform" if name == "weighting" else usual / 2 if name == "t_low" else usual + 0.05
    other = usual + 1 if isinstance(usual, int) else other
    with pytest.raises(SettingError, match=f"no use for `{name}`"):
        preset("default", **whole, **{name: other})
    assert getattr(preset("default", **whole, **{name: usual}), name) == usual


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_being_written_down(name: str) -> None:
    settings = preset(name, placeholder="<disc>", mistakes=("unit-axes",), subspace="pca")
    assert LearnSettings.from_dict(settings.to_dict()) == settings


def test_a_style_has_more_vectors_than_a_thing_unless_asked_otherwise() -> None:
    def vectors(name: str, **changes: Any) -> int:
        return preset(name, placeholder="<x>", **changes).vectors

    assert [vectors("default"), vectors("default", kind="style")] == [1, 3]
    assert [vectors("default", kind="style", vectors=2), vectors("paper", kind="style")] == [2, 1]


def test_a_preset_gives_each_search_the_passes_that_suit_it() -> None:
    found = {s: preset("default", placeholder="<x>", search=s) for s in ("gauss-newton", "cma")}
    assert (found["gauss-newton"].popsize, found["gauss-newton"].draws) == (61, 8)
    assert (found["cma"].popsize, found["cma"].draws) == (30, 16)
    assert preset("default", placeholder="<x>", popsize=5).popsize == 5


def test_the_paper_preset_has_the_papers_sizes() -> None:
    paper = preset("paper", placeholder="<disc>")
    assert (paper.popsize, paper.axes, paper.draws, paper.sigma) == (30, 256, 20, 0.5)
    assert paper.search == "cma"
    assert paper.calls // paper.draws == 13_000


def test_unknown_presets_and_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="preset"):
        preset("fast", placeholder="<disc>")
    with pytest.raises(SettingError, match="speed"):
        LearnSettings.from_dict({"placeholder": "<disc>", "speed": 3})


def test_gram_and_losses_survive_being_written_down(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    _, records = finished(small(), model, images, clip)
    evaluation = records[1].evaluation()
    again = Record.from_dict(records[1].to_dict()).evaluation()
    np.testing.assert_array_equal(again.losses, evaluation.losses)
    assert evaluation.gram is not None and again.gram is not None
    np.testing.assert_array_equal(again.gram, evaluation.gram)


def test_a_budget_is_spent_also_in_few_dimensions(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    settings = small(search="gauss-newton", popsize=61, axes=4, calls=400)
    learner, records = finished(settings, model, images, clip)
    assert records[-1].calls == learner.total_calls > 400 - (4 + 1) * 4 - 8
    assert [calls_in_all(records[:count], 400) for count in (0, 1)] == [400, 400]
    assert calls_in_all(records[:2], 400) == calls_in_all(records, 400) == learner.total_calls


def test_a_short_budget_of_time_still_gives_a_word(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    _, records = finished(small(minutes=1e-9), model, images, clip)
    assert [r.generation for r in records] == [0]
