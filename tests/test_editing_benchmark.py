"""The benchmark of editors: its edits, its measures, every rival's steps, and how it reports."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from benchmarks import figures
from benchmarks.editing import sheet, work
from benchmarks.editing.direct import Prior, decflowedit, flowalign, flowedit, locate, soft_mask
from benchmarks.editing.edits import KINDS, LISTS, Edit, edits
from benchmarks.editing.inverting import (
    flowopt_official,
    regeneration,
    rf_inversion,
    uni_edit,
)
from benchmarks.editing.methods import METHODS, RIVALS
from benchmarks.editing.ours import SUGGESTED
from benchmarks.editing.problem import Problem, Result, Run
from benchmarks.editing.report import (
    MORE,
    UNEDITED,
    Measured,
    Report,
    chosen,
    error_at,
    hull,
    share_at,
)
from benchmarks.editing.scores import Scorer, paste
from benchmarks.editing.work import CHUNK, Job, Row, Variant, every_variant, joined, planned
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_clip, load_judge
from stickers.autoencoder import to_images
from tests.points import PointModel, picture


@pytest.fixture(scope="module")
def some() -> list[Edit]:
    return edits("tuning", range(16))


def test_edits_are_the_same_every_time_and_no_two_lists_share_one(some: list[Edit]) -> None:
    assert [e.kind for e in some[: len(KINDS)]] == list(KINDS)
    again = edits("tuning", [9])[0]
    assert np.array_equal(again.pixels, some[9].pixels) and again.prompts == some[9].prompts
    names = {(e.prompts, e.pixels.tobytes()) for which in LISTS for e in edits(which, range(16))}
    assert len(names) == 2 * len(some)


def test_what_the_world_draws_is_a_perfect_edit(some: list[Edit]) -> None:
    scorer = Scorer(load_clip(), load_judge(), some)
    problem = Problem(cast(LatentModel, PointModel([e.prompts[0] for e in some])), some)
    (drawn,) = METHODS["drawn by the world"][""].run(problem, (0.0,))
    found = scorer(drawn)
    assert sum(cast(list[int], found["judge"])) >= 15
    kept = [(o, s) for o, s in zip(found["outside"], found["ssim"], strict=True) if o is not None]
    assert kept == [(0, 1)] * 12  # all but style
    assert "pasted" not in found
    before = scorer(Result(0.0, 0.0, scorer.sources))
    assert sum(cast(list[int], before["judge"])) == 0
    assert np.mean(cast(Any, before["clip"])) < np.mean(cast(Any, found["clip"])) - 0.2


def test_what_happens_outside_the_true_mask_is_not_judged_but_measured(some: list[Edit]) -> None:
    edit = some[0]  # of an object
    scorer = Scorer(load_clip(), load_judge(), [edit])
    ideal = to_images(edit.ideal[None].copy(), torch.device("cpu"))
    inside = torch.from_numpy(edit.inside)
    wild = torch.where(inside, ideal, -ideal)
    found, good = scorer(Result(0.0, 0.0, wild)), scorer(Result(0.0, 0.0, ideal))
    assert found["judge"] == good["judge"] == [1]
    assert cast(Any, found["outside"])[0] > 50 and cast(Any, found["ssim"])[0] < 0.5
    assert found["clip_inside"] == good["clip_inside"] and found["clip"] != good["clip"]
    pasted = scorer(Result(0.0, 0.0, wild, mask=inside[None, None].float()))
    assert pasted["pasted"] == [0] and pasted["pasted_judge"] == [1]


def test_a_mask_of_latents_is_pasted_softly() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    out = paste(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64), mask)
    assert out[0, 0, 0, 0] == 0 and out[0, 0, 0, -1] == 1 and out[0, 0, 0, 31] < out[0, 0, 0, 32]


# On a flow of points every step and every end is known.


@pytest.fixture
def problem(some: list[Edit]) -> Problem:
    two = some[:2]
    return Problem(cast(LatentModel, PointModel([e.prompts[0] for e in two])), two)


def ends(run: Run, problem: Problem, strengths: Sequence[float]) -> dict[float, Result]:
    return {r.strength: r for r in run(problem, strengths)}


def data(prompts: Sequence[str], guidance: float = 1.0) -> torch.Tensor:
    own = torch.stack([picture(p) for p in prompts])
    return picture("") + guidance * (own - picture(""))


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=2e-3)


@pytest.mark.parametrize(
    "run", [flowedit(28, 24, 1.0), flowalign(33, 0.0), regeneration(15, 12), rf_inversion(28, 1, 0)]
)
def test_a_rival_ends_at_the_target(run: Run, problem: Problem) -> None:
    found = ends(run, problem, (1.0,))[1.0].images
    assert near(found, data(problem.targets)) and not near(found, problem.latents)


def test_guidance_goes_beyond_the_target(problem: Problem) -> None:
    for run in (flowedit(28, 24, 1.0), regeneration(15, 12)):
        found = ends(run, problem, (1.0, 2.0))
        assert near(found[2.0].images, data(problem.targets, 2.0))
        assert near(found[1.0].images, data(problem.targets))


def test_flowedit_takes_the_guidance_of_the_source_off(problem: Problem) -> None:
    found = ends(flowedit(28, 24, 1.5), problem, (1.5,))[1.5].images
    change = data(problem.targets, 1.5) - data(problem.sources, 1.5)
    assert near(found, problem.latents + change)


def test_flowalign_is_pulled_to_the_source_and_guided_away_from_its_prompt(
    problem: Problem,
) -> None:
    y, d = problem.latents, data(problem.targets)
    assert near(ends(flowalign(33, 0.1), problem, (1.0,))[1.0].images, d + 0.1 * (y - d))
    assert near(ends(flowalign(33, 0.0), problem, (2.0,))[2.0].images, y + 2 * (d - y))


def test_rf_inversion_returns_to_the_picture_where_it_pulls_all_the_way(problem: Problem) -> None:
    found = ends(rf_inversion(28, 1.0, 1.0), problem, (0.5, 1.0))
    assert near(found[1.0].images, problem.latents)
    assert near(found[0.5].images, data(problem.targets))


def test_uni_edit_steps_back_where_the_velocities_differ(problem: Problem) -> None:
    found = ends(uni_edit(15, 0.6), problem, (0.0, 0.5))
    y, d = problem.latents, data(problem.targets)
    signal = (y - d).mean(1, keepdim=True)  # what the gap is, up to the level
    low, high = signal.amin((2, 3), True), signal.amax((2, 3), True)
    mask = (signal - low) / (high - low)
    assert near(found[0.0].images, mask * d + (1 - mask) * y)
    fused, step = mask * d + (1 - mask) * y, 0.5 * (1 + mask) * (d - y)
    assert near(found[0.5].images, fused + step)


def test_the_official_update_takes_a_share_of_the_residual_off(problem: Problem) -> None:
    found = ends(flowopt_official(0.1, 3.5), problem, (0, 2))
    for result in found.values():  # on points the noise does not matter
        assert near(result.images, data(problem.targets, 3.5))
    assert {k: r.calls for k, r in found.items()} == {0: 13 + 24, 2: 13 + 3 * 24}


PRIOR = Prior(8, 8, 1, 0.55)


@pytest.mark.parametrize(
    ("run", "calls"),
    [
        (flowedit(28, 24, 1.5), 24 * 4),
        (flowedit(28, 24, 1.0), 24 * 3),
        (flowalign(33, 0.01), 33 * 3),
        (uni_edit(15, 0.6), 28),
        (rf_inversion(28, 3.5, 0.9), 28 * 3),
        (decflowedit(28, 24, 1.5, PRIOR), 16 + 24 * 4),
    ],
)
def test_calls_are_those_of_one_strength(run: Run, calls: int, problem: Problem) -> None:
    for result in run(problem, (0.5, 2.0)):
        assert result.calls == calls


def test_decflowedit_changes_only_where_the_prompts_differ(problem: Problem) -> None:
    model = cast(PointModel, problem.model)
    own = model.condition

    def condition(prompts: Sequence[str], words: Any = None) -> torch.Tensor:
        rows = own(prompts)
        for row, prompt in zip(rows, prompts, strict=True):
            if prompt in problem.targets:  # like the source, but for the left quarter
                source = problem.sources[problem.targets.index(prompt)]
                row[:, :, 2:] = picture(source)[:, :, 2:]
        return rows

    model.condition = condition  # type: ignore[method-assign]
    mask, calls = locate(problem, PRIOR)
    assert calls == 16 * len(problem.edits)
    assert (mask[:, :, :, 2:] < 0.01).all() and mask[:, :, :, :2].mean() > 0.5
    found = ends(decflowedit(28, 24, 1.0, PRIOR), problem, (3.0,))[3.0]
    change = (found.images - problem.latents).abs()
    assert found.mask is not None and torch.equal(found.mask, mask)
    assert change[..., 2:].max() < 0.05 < change[..., :2].mean()


def test_a_soft_mask_ignores_the_size_of_a_response() -> None:
    energy = torch.full((2, 1, 8, 8), 1.0)
    energy[:, :, 2:5, 2:5] = 5.0
    energy[1] *= 100
    mask = soft_mask(energy, Prior(28, 24, 1, 0.55))
    assert torch.allclose(mask[0], mask[1])
    assert mask[0, 0, 3, 3] > 0.99 and mask[0, 0, 0, 0] < 0.01
    wide = soft_mask(energy, Prior(28, 24, 5, 0.55))
    assert (wide > 0.5).sum() != (mask > 0.5).sum()  # smoothed over its neighbours


def test_every_result_of_a_rival_depends_on_its_own_edit_alone(some: list[Edit]) -> None:
    def problem_of(part: list[Edit]) -> Problem:
        return Problem(cast(LatentModel, PointModel([e.prompts[0] for e in part])), part)

    for method in RIVALS.values():
        settings = next(iter(method.values()))
        strength = settings.strengths[0]
        (both,) = settings.run(problem_of(some[:2]), (strength,))
        (one,) = settings.run(problem_of(some[1:2]), (strength,))
        assert torch.allclose(both.images[1:], one.images, atol=1e-4)


def test_ours_suggests_one_of_what_it_draws(some: list[Edit]) -> None:
    from benchmarks.editing.ours import offered
    from evoken.flowopt.settings import flowopt_preset
    from evoken.models.load import load_model
    from evoken.spec import ModelSpec

    problem = Problem(load_model(ModelSpec("stickers-flow")), some[:1])
    run = offered(flowopt_preset("edit", steps=4, iterations=1, guidance=4.0))
    found = ends(run, problem, (SUGGESTED, 1, 2))
    assert any(torch.equal(found[SUGGESTED].images, found[k].images) for k in (1, 2))
    assert found[SUGGESTED].calls == found[2].calls > found[1].calls > 0


# What is reported of synthetic rows.


def test_a_curve_is_the_lower_hull_of_its_points() -> None:
    points = [(0.2, 5.0), (0.4, 9.0), (0.6, 10.0), (0.5, 20.0), (0.9, 40.0), (0.8, 50.0)]
    curve = hull(points)
    assert curve == [(0.2, 5.0), (0.6, 10.0), (0.9, 40.0)]
    assert error_at(curve, 0.4) == pytest.approx(7.5)  # half of each
    assert error_at(curve, 0.1) == 5.0 and error_at(curve, 0.91) == float("inf")
    assert error_at(curve, 0.9) == pytest.approx(40.0)
    assert share_at(curve, 25.0) == pytest.approx(0.75)
    assert share_at(curve, 4.9) == 0.0 and share_at(curve, 99.0) == 0.9
    for share in (0.25, 0.5, 0.77):
        assert share_at(curve, error_at(curve, share)) == pytest.approx(share)
    assert hull([(0.5, 3.0), (0.5, 2.0), (0.4, 2.0)]) == [(0.5, 2.0)]
    assert hull([]) == [] and error_at([], 0.1) == float("inf") and share_at([], 9.0) == 0.0


EDITS = 32


def row(share: float, outside: float, calls: float = 90.0) -> Row:
    """Of a variant that satisfies the judge in the first edits of every kind."""
    per_kind = EDITS // len(KINDS)
    judge = [int(i // len(KINDS) < share * per_kind) for i in range(EDITS)]
    errors = [None if i % len(KINDS) == 3 else outside for i in range(EDITS)]
    same = {name: [0.5] * EDITS for name in ("clip", "clip_inside")}
    return {"calls": calls, "judge": judge, "outside": errors, "ssim": errors} | same


def example() -> dict[Variant, Row]:
    """Ours is twice as near at the share of the best rival, which is FlowEdit."""
    return {
        UNEDITED: row(0.0, 2.0, 0.0),
        Variant("FlowEdit", "a", 1.0): row(0.25, 6.0),
        Variant("FlowEdit", "a", 2.0): row(0.5, 8.0),
        Variant("FlowEdit", "a", 3.0): row(0.75, 30.0),
        Variant("FlowEdit", "b", 3.0): row(0.5, 31.0),
        Variant("RF-Inversion", "a", 0.5): row(0.5, 16.0, 40.0),
        Variant("ours", "default", SUGGESTED): row(0.5, 4.0, 80.4),
        Variant("ours", "default", 1.0): row(0.25, 3.0, 40.0),
        Variant("ours", "default", 2.0): row(0.75, 12.0, 80.4),
    }


def test_figures_say_what_the_rows_say() -> None:
    measured = Measured(example())
    report = Report(measured, measured)
    assert str(report.best_rival()) == "FlowEdit, a, 2"  # .75 of the edits are far from clean
    found = report.found()
    assert found["editing.outside_rmse_vs_best"]["median"] == pytest.approx(4 / 8)
    beyond = (4**2 - 2**2) ** 0.5 / (8**2 - 2**2) ** 0.5  # the autoencoder's error is 2
    assert found["editing.beyond_rmse_vs_best"]["median"] == pytest.approx(beyond, abs=1e-4)
    # At an error of 8, ours is half-way between .5 and .75.
    assert found["editing.judge_share_vs_best"]["median"] == pytest.approx(0.625 / 0.5)
    assert found["editing.calls_default"] == 80.4
    assert found["editing.suggested_vs_ceiling"]["median"] == pytest.approx(0.5 / 0.75, abs=1e-4)
    # Within 81 calls there is one rival, and ours beside it.
    assert report.calls == 81
    assert found["editing.outside_rmse_vs_best_equal_calls"]["median"] == pytest.approx(4 / 16)
    spread = found["editing.judge_share_vs_best"]
    assert spread["low"] < spread["median"] < spread["high"] and spread["n"] == 24
    assert found["editing.flowedit.clean"] == 0.5 and found["editing.flowedit.outside"]["low"] == 8
    assert found["editing.flowedit.style"] == 0.5 and found["editing.edits"] == EDITS
    assert "editing.rf-inversion-81-calls.judge" not in found  # the same as at its best


def test_a_rival_out_of_reach_is_met_where_both_are() -> None:
    rows = {k: v for k, v in example().items() if k.method != "ours"}
    rows[Variant("ours", "default", SUGGESTED)] = row(0.25, 20.0)
    measured = Measured(rows)
    found = Report(measured, measured).found()
    assert found["editing.outside_rmse_vs_best"]["median"] == pytest.approx(20 / 6, abs=1e-4)
    assert found["editing.judge_share_vs_best"]["median"] == 0.0
    assert "editing.suggested_vs_ceiling" not in found  # nothing else was drawn


def test_settings_are_chosen_on_the_edits_to_tune_on() -> None:
    tuned = example()
    its = chosen(Measured(tuned), 81)
    assert Variant("FlowEdit", "b", 3.0) not in its  # as many, for more
    assert {v for v in tuned if v.settings != "b"} == set(its)
    better = tuned | {Variant("FlowEdit", "b", 3.0): row(1.0, 1.0)}  # where it does not count
    report = Report(Measured(tuned), Measured({v: better[v] for v in its}))
    assert str(report.best_rival()) == "FlowEdit, a, 2"


def test_clean_is_beyond_what_the_autoencoder_does() -> None:
    rows = {UNEDITED: row(0.0, 17.0), Variant("FlowEdit", "a", 1.0): row(1.0, 17.0 + MORE)}
    rows[Variant("FlowEdit", "a", 2.0)] = row(1.0, 17.1 + MORE)
    measured = Measured(rows)
    assert [measured.mean(v, "clean") for v in measured.rows] == [0.0, 1.0, 0.0]
    assert measured.of(["FlowEdit"], calls=10) == []
    assert Measured({k: v for k, v in rows.items() if k != UNEDITED}).rows == {}


def test_only_what_is_missing_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(work, "RESULTS", tmp_path / "editing.jsonl")
    variants = every_variant(["unedited", "Uni-Edit"])
    jobs = planned(variants, "tuning", 2 * CHUNK, {})
    assert len(jobs) == 2 * (1 + 4) and sum(len(j.strengths) for j in jobs) == 2 * len(variants)
    first = jobs[0]
    assert first == Job("unedited", "", (0.0,), "tuning", 0)
    work.prepare()
    rows = work.measured(first)
    figures.append(work.RESULTS, rows)
    assert [len(r["judge"]) for r in rows] == [CHUNK] and work.weights() == rows[0]["weights"]
    known = work.done()
    assert planned(variants, "tuning", 2 * CHUNK, known) == jobs[1:]
    assert not dict(joined(known, variants, "tuning", 2 * CHUNK))  # the second chunk is missing
    (whole,) = dict(joined(known, variants, "tuning", CHUNK)).items()
    assert whole[0] == UNEDITED and whole[1]["judge"] == rows[0]["judge"]
    assert work.forecast(jobs[1:], rows) > 0
    work.forget(["unedited"])
    assert work.done() == {}
    figures.append(work.RESULTS, [rows[0] | {"weights": "others"}])
    assert work.done() == {}
    with pytest.raises(ValueError, match="nothing"):
        work.forecast(jobs, [])


def test_packed_results_are_gone_on_with(tmp_path: Path) -> None:
    path, rows = tmp_path / "some.jsonl", [{"edit": i, "judge": [0, 1] * 20} for i in range(50)]
    figures.append(path, rows[:30])
    size = path.stat().st_size
    figures.pack(path)
    (packed,) = tmp_path.iterdir()
    assert packed.stat().st_size < size / 5 and figures.results(path) == rows[:30]
    figures.append(path, rows[30:])
    assert figures.results(path) == rows
    figures.pack(path)
    assert figures.results(path) == rows and not path.exists()
    figures.keep(path, lambda row: row["edit"] < 2)
    assert figures.results(path) == rows[:2] and [*tmp_path.iterdir()] == [path]


def test_no_result_is_lost_when_another_command_packs(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    with ThreadPoolExecutor(1) as other:
        packing = other.submit(lambda: [figures.pack(path) for _ in range(200)])
        for i in range(200):
            figures.append(path, [{"edit": i}])
        packing.result()
    assert figures.results(path) == [{"edit": i} for i in range(200)]


def test_the_sheet_shows_edits_of_every_kind_and_none_picked(some: list[Edit]) -> None:
    assert len(sheet.NUMBERS) == 24 and sheet.NUMBERS[-1] < 208
    assert Counter(n % len(KINDS) for n in sheet.NUMBERS) == dict.fromkeys(range(4), 6)
    pixels = np.stack([e.pixels for e in some])
    image = sheet.sheet(some, [pixels, pixels])
    assert image.width == 3 * (2 * 116 + 12) - 12 and image.height == 6 * (112 + 18 + 4)
    assert "to candy" in sheet.said(some[0])
