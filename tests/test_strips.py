"""One inversion, many edits: strips over strengths, targets and seeds, and which to take."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import evoken as library
from evoken.errors import SettingError
from evoken.flowopt.begin import WIDEST, code_back, notes_on_spread
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.mask import _middle
from evoken.flowopt.record import suggestion_of
from evoken.flowopt.report import caption_of, charts
from evoken.flowopt.sampler import ModelSampler
from evoken.flowopt.settings import DEFAULTS, flowopt_preset
from evoken.flowopt.strength import Strength
from evoken.flowopt.suggestion import Scorer, Weights, suggested
from evoken.images import to_pictures, to_tensor
from evoken.models.clip import Clip
from evoken.models.load import load_model
from tests.commands import evoken, files, refused

pytestmark = pytest.mark.usefixtures("own_folder")
TURN = ("--from", "a cat", "--to", "a dog")


@pytest.fixture
def photo() -> Path:
    """A picture in the folder that commands run in."""
    Image.effect_mandelbrot((32, 32), (-2, -1, 1, 1), 30).convert("RGB").save("house.png")
    return Path("house.png")


def edited(tiny_folder: Path, output: str, *arguments: object) -> FlowOptRun:
    model = ("--model", tiny_folder / "flow", "--clip", tiny_folder / "clip", "--steps", 4)
    result = evoken("edit", *arguments, *model, "--output", output)
    assert result.exit_code == 0, result.output
    Path(output, "said").write_text(result.output)
    return FlowOptRun.open(output)


def iterates(run: FlowOptRun, row: int = 0) -> list[bytes]:
    return [run.picture(row, record["iteration"]).read_bytes() for record in run.records()]


# Settings.


@given(st.floats(1, 999), st.integers(0, 999), st.floats(0, 1))
def test_a_strength_survives_its_text(guidance: float, last: int, fresh: float) -> None:
    strength = Strength(guidance, last, fresh)
    assert Strength.read(str(strength)) == strength


def test_a_strength_is_written_as_people_do() -> None:
    found = [Strength(4, 12, 1), Strength(4, 12), Strength(3.5, 0, 0.25)]
    assert [str(strength) for strength in found] == ["4:12:1", "4:12", "3.5:0:0.25"]


@pytest.mark.parametrize("single", [{"guidance": 6.0}, {"last": 3}])
def test_strengths_are_in_place_of_a_single_one(
    single: dict[str, float], tiny_folder: Path, photo: Path
) -> None:
    [(name, value)] = single.items()
    with pytest.raises(SettingError, match=f"but `{name}` came as well"):
        flowopt_preset("edit", strengths=("2:5",), **single)
    given = ("--strength", "2:3", f"--{name}", value)
    model = ("--model", tiny_folder / "flow")
    refused(evoken("edit", photo, *TURN, *model, *given), f"but --{name} came as well")
    with pytest.raises(SettingError, match=f"but `{name}` came as well"):
        library.FlowOptSettings(strengths=("2:5",), **single)  # type: ignore[arg-type]


def test_a_strength_may_have_its_own_share_of_fresh_noise() -> None:
    def shares(*strengths: str, **changes: Any) -> list[float]:
        settings = flowopt_preset("edit", strengths=strengths, **changes)
        return [v.strength.fresh for v in settings.variants]

    assert shares("4:3", "4:3:0.5", "4:3:0") == [1.0, 0.5, 0.0]
    assert shares("4:3", "4:3:0.5", fresh=0.25) == [0.25, 0.5]
    assert {v.strength.fresh for v in flowopt_preset("edit", fresh=0.0).variants} == {0.0}
    assert [v.strength.fresh for v in flowopt_preset("edit", guidance=4.0, last=3).variants] == [1]
    script = flowopt_preset("official-sd3-edit", strengths=("4:3",))
    assert [v.strength.fresh for v in script.variants] == [0.0]
    with pytest.raises(SettingError, match="`strengths` must differ"):
        shares("4:3", "4:3:1")


def test_a_run_of_before_fresh_noise_keeps_its_own() -> None:
    earlier = flowopt_preset("edit").to_dict() | {"strengths": ["2.5:14", "4:14"]}
    del earlier["fresh"]  # which was not written beside strengths
    assert not any(v.noise for v in library.FlowOptSettings.from_dict(earlier).variants)


def test_an_inversion_has_no_fresh_noise(tiny_folder: Path, photo: Path) -> None:
    model, images = library.load_model(str(tiny_folder / "flow")), torch.zeros(1, 3, 32, 32)
    cases: list[tuple[str, dict[str, Any]]] = [("edit", {}), ("invert", {"fresh": 0.5})]
    for preset, changes in cases:
        settings = flowopt_preset(preset, **changes)
        with pytest.raises(SettingError, match="only serves to edit a picture"):
            library.invert(settings, model, images, [""])
    few = ("--model", tiny_folder / "flow", "--preset", "edit", "--output", "run")
    refused(evoken("invert", photo, *few), "choose the preset invert")
    assert not Path("run").exists()


def test_the_settings_of_a_strip_are_those_of_a_file(tiny_folder: Path, photo: Path) -> None:
    strip = flowopt_preset("edit")
    written = strip.to_dict()
    assert not {"guidance", "last"} & written.keys()
    assert library.FlowOptSettings.from_dict(written) == strip
    earlier = written | {"guidance": 4.0, "last": 12}
    assert library.FlowOptSettings.from_dict(earlier) == strip
    run = edited(tiny_folder, "run", photo, *TURN, "--strength", "2:3")
    again = edited(tiny_folder, "again", photo, *TURN, "--config", "run/config.json")
    assert again.settings == run.settings and iterates(again) == iterates(run)
    config = ("--config", "run/config.json")  # over which the line wins
    one = edited(tiny_folder, "one", photo, *TURN, *config, "--guidance", 2)
    assert one.settings.strengths == () and one.settings.guidance == 2
    two = edited(
        tiny_folder, "two", photo, *TURN, "--config", "one/config.json", "--strength", "2:2"
    )
    assert two.settings.strengths == ("2:2",)


@pytest.mark.parametrize("texts", [("4:3", "2:3", "4:3"), ("4:3", "4.0:3"), ("4:4", "4:0")])
def test_strengths_must_differ(texts: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="`strengths` must differ"):
        flowopt_preset("edit", steps=4, strengths=texts)
    near = flowopt_preset("edit", steps=4, strengths=("4:3:0.1234561", "4:3:0.1234562"))
    assert len({str(variant.strength) for variant in near.variants}) == 2


@pytest.mark.parametrize("text", ["", "4", "4:", ":4", "a:4", "4:1.5", "4:12:0.5:1", "4:12:2"])
def test_what_is_no_strength_is_refused(text: str) -> None:
    with pytest.raises(SettingError):
        flowopt_preset("edit", strengths=(text,))


def test_a_strip_is_the_default_and_gives_way_to_a_strength_of_ones_own() -> None:
    strip = flowopt_preset("edit")
    assert len(strip.variants) == len(DEFAULTS["edit"]["strengths"]) == strip.drawn
    assert strip.iterations == 0  # nothing is drawn that is not to choose from
    for own in ({"guidance": 3.0}, {"last": 5}):
        assert len(flowopt_preset("edit", **own).variants) == 1
    for updates in (0, 2):  # of every picture of it
        assert flowopt_preset("edit", iterations=updates).drawn == strip.drawn * (1 + updates)
    asked = flowopt_preset("edit", strengths=["2:3", "4:5"], iterations=2)
    assert [str(v.strength) for v in asked.variants] == ["2:3:1", "4:5:1"] and asked.drawn == 6
    few = flowopt_preset("edit", steps=5)
    assert {v.strength.last for v in few.variants} == {5} and few.deepest == 5
    for name in ("invert", "official-sd3-edit", "official-flux-invert"):
        assert len(flowopt_preset(name).variants) == 1


def test_the_default_takes_a_hundred_calls_at_most() -> None:
    settings = flowopt_preset("edit")
    drawn = sum(2 * v.strength.last for v in settings.variants)
    noises = {v.noise for v in settings.variants if v.noise}
    # Six for the mask, and the inversion: 18 where it was measured, 14 at least.
    drawn += sum(settings.deepest_of(noise) for noise in noises)
    assert drawn + 6 + settings.deepest + 4 <= 100


# Runs.


def test_each_of_a_strip_is_what_a_run_of_its_own_draws(tiny_folder: Path, photo: Path) -> None:
    strengths = ("2:3:0", "4:2:0", "3:3:0.5", "5:2:0.5")
    options = [o for s in strengths for o in ("--strength", s)]
    strip = edited(tiny_folder, "strip", photo, *TURN, *options)
    assert len(strip.records()) == 4
    said = Path("strip/said").read_text()
    assert "1 picture, 4 results." in said
    for text in ("guidance 2, last 3  ", "guidance 4, last 2  ", "last 3, 50 % fresh noise  "):
        assert text in said
    for i in (0, 2):  # whose inversion goes up as far
        alone = edited(tiny_folder, f"alone-{i}", photo, *TURN, "--strength", strengths[i])
        assert iterates(alone) == [iterates(strip)[i]]
    calls = [record["calls"] for record in strip.records()]
    # The walks down, and the source's side of fresh noise, once.
    assert np.diff(calls).tolist() == [2 * 2, 3 + 2 * 3, 2 * 2]


def test_several_targets_share_an_inversion_and_the_noise(tiny_folder: Path, photo: Path) -> None:
    one = edited(tiny_folder, "one", photo, *TURN, "--strength", "4:3")
    two = edited(tiny_folder, "two", photo, *TURN, "--to", "a red bird", "--strength", "4:3")
    assert two.config["targets"] == ["a dog", "a red bird"]
    [alone], [together] = one.records(), two.records()
    drawn, masks = 2 * 3, 2 * len(_middle(3, 1))
    shared = alone["calls"] - drawn - masks  # the inversion, and the source's side of fresh noise
    assert together["calls"] == shared + 2 * (drawn + masks)
    assert (
        iterates(two) == iterates(one)
        or np.abs(
            np.asarray(Image.open(one.picture(0, 0)), float)
            - np.asarray(Image.open(two.picture(0, 0)), float)
        ).max()
        <= 1
    )  # by the rounding of calls with other numbers of rows
    assert iterates(two, 1) != iterates(two, 0)
    assert len(two.pick()) == 2


def test_seeds_are_draws_of_the_fresh_noise(tiny_folder: Path, photo: Path) -> None:
    strength = ("--strength", "3:3:0", "--strength", "3:3:0.5")
    both = edited(tiny_folder, "both", photo, *TURN, *strength, "--seeds", 2, "--seed", 5)
    found = [(r["strength"], r["seed"]) for r in both.records()]
    assert found == [("3:3", 5), ("3:3:0.5", 5), ("3:3:0.5", 6)]
    assert "50 % fresh noise, seed 6" in Path("both/said").read_text()
    second = edited(tiny_folder, "second", photo, *TURN, *strength, "--seed", 6)
    assert iterates(second) == [iterates(both)[0], iterates(both)[2]]


def test_an_iterate_is_told_by_strength_update_and_seed(tiny_folder: Path, photo: Path) -> None:
    more = ("--strength", "2:2:0", "--strength", "3:2:0.5", "--seeds", 2, "--iterations", 1)
    run = edited(tiny_folder, "run", photo, *TURN, *more)
    fresh = "guidance 3, last 2, 50 % fresh noise"
    begun = ["guidance 2, last 2", fresh, fresh]
    expected = [f"{text}, seed {seed}" for text, seed in zip(begun, (0, 0, 1), strict=True)]
    expected += [
        f"{text}, update 1, seed {seed}" for text, seed in zip(begun, (0, 0, 1), strict=True)
    ]
    assert [caption_of(run, record) for record in run.records()] == expected
    said, report = Path("run/said").read_text(), (run.path / "report.html").read_text()
    for i, text in enumerate(expected):
        assert f"iterate {i}  {text}  " in said and f"{i}: {text}, RMSE" in report
    rows = list(csv.DictReader((run.path / "curves.csv").read_text().splitlines()))
    assert [(r["strength"], r["seed"], r["update"]) for r in rows] == [
        (strength, str(seed), str(update))
        for update in (0, 1)
        for strength, seed in (("2:2", 0), ("3:2:0.5", 0), ("3:2:0.5", 1))
    ]
    legend = {line.name for one in charts(run.records(), {}, 0) for line in one.lines}
    assert legend == {"2:2, seed 0", "3:2:0.5, seed 0", "3:2:0.5, seed 1"}


def test_updates_of_each_come_after_the_strip(tiny_folder: Path, photo: Path) -> None:
    strength = ("--strength", "2:3:0", "--strength", "4:3:0")
    run = edited(tiny_folder, "run", photo, *TURN, *strength, "--iterations", 2)
    assert "2 results, 2 updates of each." in Path("run/said").read_text()
    found = [(r["strength"], r["update"]) for r in run.records()]
    assert found == [("2:3", 0), ("4:3", 0), ("2:3", 1), ("2:3", 2), ("4:3", 1), ("4:3", 2)]
    assert np.diff([r["calls"] for r in run.records()]).tolist() == [6] * 5
    single = ("--guidance", 4, "--last", 3, "--fresh", 0)
    alone = edited(tiny_folder, "alone", photo, *TURN, *single, "--iterations", 2)
    assert iterates(alone) == [iterates(run)[i] for i in (1, 4, 5)]
    report = (run.path / "report.html").read_text()
    assert 'class="legend"' in report  # a curve for each


@pytest.mark.parametrize("done", [1, 2, 3, 5])
def test_a_strip_that_was_interrupted_ends_as_it_would_have(
    tiny_folder: Path, photo: Path, done: int
) -> None:
    strengths = [o for s in ("2:3:0", "3:3:0.5", "4:2:0.5") for o in ("--strength", s)]
    run = edited(tiny_folder, "run", photo, *TURN, *strengths, "--iterations", 1)
    whole, records = files(run.path), run.path / "records.jsonl"
    kept = records.read_text().splitlines(keepends=True)[:done]
    records.write_text("".join(kept))
    for number in range(done, 6):
        run.picture(0, number).unlink()
    assert evoken("edit", "--resume", run.path).exit_code == 0
    assert files(run.path) == whole


# Which to take.


def test_the_first_of_the_best_is_suggested() -> None:
    assert suggested([0.1, 0.4, 0.4, -1.0]) == 1
    assert suggested([-0.2, -0.1]) == 1


def test_patience_leaves_out_what_came_after_the_last_that_counts() -> None:
    def record(number: int, agreement: float) -> dict[str, Any]:
        about = {"iteration": number, "agreement": [agreement], "source_agreement": [0.1]}
        return about | {"gain": [agreement - 0.1]}

    records = [record(n, a) for n, a in enumerate([0.3, 0.2, 0.2, 0.9])]
    assert suggestion_of(records, 0, 2) == 0
    assert suggestion_of(records, 0, 0) == 3
    old = [{k: v for k, v in r.items() if k != "gain"} for r in records]
    assert suggestion_of(old, 0, 0) == 3
    broken = [records[0], records[3] | {"agreement": [None]}]
    assert suggestion_of(broken, 0, 0) == 0


def test_scores_are_gains_over_the_picture_inside_its_mask(clip: Clip, images: Any) -> None:
    masks = torch.zeros(4, 1, 16, 16)
    masks[..., 4:12, 4:12] = 1
    texts = ["a cat"] * 4, ["a dog"] * 4
    scorer = Scorer(clip, images, masks, *texts)
    nothing = scorer(images)
    assert torch.equal(nothing.gain, torch.zeros(4, dtype=torch.float64))
    assert torch.equal(nothing.agreement, scorer.source_agreement)
    outside = images.clone()
    outside[..., 12:, :] = 1
    far = Scorer(clip, images, masks, *texts, weights=Weights(whole=0, outside=0.01))(outside)
    assert (far.gain < 0).all()  # what is inside is as it was
    inside = torch.where(masks > 0, -images, images)
    w = Weights(whole=0, source=0, outside=0)
    one_to_one = Weights(whole=0, source=1, outside=0)
    with_target = Scorer(clip, images, masks, *texts, weights=w)(inside).gain
    both = Scorer(clip, images, masks, *texts, weights=one_to_one)(inside).gain
    against = Scorer(clip, images, masks, texts[1], texts[0], weights=w)(inside).gain
    torch.testing.assert_close(both, with_target - against)
    no_source = Scorer(clip, images, masks, [""] * 4, texts[1], weights=one_to_one)
    torch.testing.assert_close(no_source(inside).gain, with_target)
    one = Scorer(clip, images[1:2], masks[1:2], *(t[:1] for t in texts))(inside[1:2])
    torch.testing.assert_close(one.gain, scorer(inside).gain[1:2])


# The noise.


def inverted(tiny_folder: Path, family: str, photo: Path, *more: object) -> FlowOptRun:
    model = ("--model", tiny_folder / family, "--size", 16)
    few = ("--steps", 4, "--iterations", 1, "--tolerance", 1e-4, "--output", "run")
    result = evoken("invert", photo, "--prompt", "a photo of a cat", *model, *few, *more)
    assert result.exit_code == 0, result.output
    return FlowOptRun.open("run")


@pytest.mark.parametrize("family", ["flow", "model", "xl", "flux", "schnell"])
def test_diffusers_gives_the_picture_back_with_the_lines_of_the_report(
    tiny_folder: Path, photo: Path, family: str
) -> None:
    run = inverted(tiny_folder, family, photo)
    code = code_back(run)
    assert code and str(tiny_folder) not in code
    _, lines = code.split("\n\n")
    assert len(re.findall(r"^[a-z]", lines, re.MULTILINE)) == (3 if "DDIM" not in code else 4)
    names: dict[str, Any] = {}
    here = code.replace(f"'{family}'", repr(str(tiny_folder / family)))
    here = here.replace('"noise.safetensors"', '"run/noise.safetensors"')
    exec(here, names)
    model = load_model(run.spec)
    about = run.config["noise"]
    f = ModelSampler(model, about["steps"])
    noise = load_file("run/noise.safetensors")["noise"]
    drawn = model.decode(f(noise, f.condition(about["prompts"], about["guidance"])))
    apart = to_tensor(names["picture"]) - to_tensor(to_pictures(drawn)[0])
    assert float(apart.abs().max()) < 0.05
    assert names["picture"].size == (16, 16)


def test_the_noise_says_what_it_is_for(tiny_folder: Path) -> None:
    Image.effect_mandelbrot((40, 20), (-2, -1, 1, 1), 30).convert("RGB").save("wide.png")
    run = inverted(tiny_folder, "flow", Path("wide.png"))
    with safe_open("run/noise.safetensors", "pt") as file:
        about = file.metadata()
    assert (about["model"], about["size"], about["steps"]) == ("flow", "16", "4")
    assert json.loads(about["prompts"]) == ["a photo of a cat"] and about["guidance"] == "1.0"
    assert str(tiny_folder) not in str(about)
    assert ".crop((0, 4, 16, 12))" in code_back(run)  # of what it was drawn out with
    part = inverted(tiny_folder, "flow", Path("wide.png"), "--last", 3, "--output", "part")
    assert not code_back(FlowOptRun.open("part")) and part


def test_a_picture_that_lies_outside_is_told(
    tiny_folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = inverted(tiny_folder, "flow", photo)
    [spread] = run.records()[0]["spread"]
    assert spread == pytest.approx(
        float(load_file("run/noise.safetensors")["noise"].std()), rel=0.1
    )
    assert bool(notes_on_spread(run)) == (spread > WIDEST)
    for limit, told in ((spread - 0.01, True), (spread + 0.01, False)):
        monkeypatch.setattr("evoken.flowopt.begin.WIDEST", limit)
        model = ("--model", tiny_folder / "flow", "--steps", 4, "--iterations", 0)
        output = ("--tolerance", 1e-4, "--output", f"run-{told}")
        result = evoken("invert", photo, "--prompt", "a photo of a cat", *model, *output)
        assert ("is unlike what 'flow' draws" in result.output) == told
        assert ("is unlike what" in Path(f"run-{told}/report.html").read_text()) == told


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("prompt", ["", "a photo of a cat"])
def test_few_steps_and_the_empty_prompt_are_inverted(
    tiny_folder: Path, photo: Path, steps: int, prompt: str
) -> None:
    flow = library.load_model(str(tiny_folder / "flow"))
    run = library.invert_into("run", photo, prompt, flow, steps=steps, tolerance=1e-5)
    assert run.records()[-1]["residual"][0] < 1e-3


def test_a_target_that_is_empty_is_refused(tiny_folder: Path, photo: Path) -> None:
    refused(evoken("edit", photo, "--from", "a cat", "--to", "a dog", "--to", ""), "no --to")
