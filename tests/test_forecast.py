"""What a run says that it will take, before it starts."""

import dataclasses
import math
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch import Tensor

from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.textual_inversion import forecast as forecasts
from evoken.textual_inversion.forecast import forecast
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import preset
from evoken.textual_inversion.workflow import (
    calls_of_no_word,
    calls_of_previews,
    calls_of_sheets,
)


def learner(model: StableDiffusion, images: Tensor, clip: Clip, **changes: object) -> Learner:
    chosen = {"popsize": 5, "draws": 4, "validation_draws": 8, "calls": 128} | changes
    return Learner(preset("default", placeholder="<disc>", **chosen), model, images, clip)


def test_a_forecast_disturbs_nothing(model: StableDiffusion, images: Tensor, clip: Clip) -> None:
    plain, asked = (learner(model, images, clip) for _ in range(2))
    calls = model.calls
    found = forecast(asked)
    assert model.calls == calls
    assert 0 < found.minutes < 10 and 0.1 < found.gigabytes < 100
    for _ in range(3):
        one, other = (dataclasses.replace(x.step(), seconds=0) for x in (plain, asked))
        assert one == other
    assert math.isclose(forecast(learner(model, images, clip, minutes=1e-9)).minutes, 0, abs_tol=9)


def test_a_forecast_is_of_what_is_left(model: StableDiffusion, images: Tensor, clip: Clip) -> None:
    asked = learner(model, images, clip, minutes=50, calls=10**9, preview_every=0, samples=0)
    assert 50 < forecast(asked).minutes < 51
    asked.generation, asked.seconds = 98, 60 * 48.0
    assert 2 < forecast(asked, calls_done=asked.calls).minutes < 3
    asked = learner(model, images, clip, preview_every=2)
    whole, each = calls_of_previews(asked, 4), 4 * 10 * 2  # pictures, steps, guidance
    assert asked.generations == 4 and whole == 3 * each  # of generations 0, 2 and 4
    asked.generation = 2  # whose preview is there, as that of generation 0 is
    assert calls_of_previews(asked, 4) == whole - 2 * each
    # Of ten million generations there is time for a few, which have no more previews than that.
    asked = learner(model, images, clip, minutes=0.01, calls=10**9, preview_every=1, samples=0)
    assert forecast(asked).minutes < 1


@pytest.fixture
def ticking(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock that ticks once for every row that the denoiser computes."""
    ticks = [0.0]

    def tick(_module: object, _inputs: object, output: Any) -> None:
        ticks[0] += len(output[0])

    monkeypatch.setattr(time, "perf_counter", lambda: ticks[0])
    hook = model.denoiser.register_forward_hook(tick)
    yield
    hook.remove()


@pytest.mark.usefixtures("ticking")
def test_a_forecast_of_drawing_is_of_the_calls_that_are_drawn(
    model: StableDiffusion, images: Tensor, clip: Clip
) -> None:
    how: dict[str, Any] = {"objective": "similarity", "search": "sep-cma", "popsize": 4}
    settings = preset("default", placeholder="<disc>", calls=2_000, **how)
    asked = Learner(settings, model, images, clip)
    drawn = calls_of_previews(asked, asked.generations) + calls_of_sheets(asked)
    drawn += calls_of_no_word(asked, known=False)
    assert forecast(asked).minutes * 60 == pytest.approx(asked.total_calls + drawn)


@pytest.mark.usefixtures("ticking")
def test_forecasts_of_quick_and_slow_models_agree_and_know_of_workers(
    model: StableDiffusion, images: Tensor, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = learner(model, images, clip, popsize=24, calls=2_000)
    calls = asked.total_calls / 60
    monkeypatch.setattr(forecasts, "SLOW", math.inf)
    quick = forecast(asked)
    monkeypatch.setattr(forecasts, "SLOW", 0.0)
    slow = forecast(asked)
    asked.evaluator = cast(Any, SimpleNamespace(workers=8, threads=1))
    shared = forecast(asked)
    assert quick.minutes == slow.minutes > calls
    assert shared.minutes == pytest.approx(slow.minutes - calls / 2)  # of four draws, two chunks
    assert "in each of 8 workers" in str(shared)
