"""The scores of a learned word, and what it is better than."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model
from typer.testing import Result

from evoken.cli.learn import said_of_loss
from evoken.errors import SettingError
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.pictures.metrics import Score, concept_score
from evoken.pictures.scoring import LABELS, drawn, evaluate, scores_of
from evoken.prompts import KINDS
from evoken.textual_inversion.evaluation import evaluate_run
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.objective import DenoisingLoss
from evoken.textual_inversion.report import write_report
from evoken.textual_inversion.settings import preset
from evoken.words.word import Word, load_word, save_word
from tests.commands import evoken, refused
from tests.test_pages import Page

pytestmark = pytest.mark.usefixtures("own_folder")


def test_evaluate_knows_what_the_judge_knows(done: Path) -> None:
    refused(evoken("evaluate", done, "--concept", "teapod"), "teapod")  # no sticker model


def test_evaluate_prints_all_scores_and_says_first_what_they_cost(done: Path) -> None:
    result = evoken("evaluate", done, "--count", 3)
    assert result.exit_code == 0, result.output
    # Two words in nine sentences, ten steps of two calls, and three losses on eight draws.
    assert "Scoring takes 1,104 calls, for 54 pictures and three losses: about " in result.output
    scores = json.loads((done / "scores.json").read_text())
    assert (scores["count"], scores["calls"]) == (3, 1_104)
    sizes = {"concept": 3, "prompt": 8, "diversity": 3, "reconstruction": 3, "editability": 8}
    assert scores["start_and_learned"].keys() == sizes.keys()
    for name, n in sizes.items():
        assert LABELS[name] in result.output
        for score in scores["start_and_learned"][name]:
            assert score["low"] < score["value"] < score["high"] and score["n"] == n


def test_evaluate_tells_the_gain_over_the_start_and_over_no_word(
    learn: Callable[..., Result],
) -> None:
    assert learn("--sigma", 0.1).exit_code == 0  # short steps get somewhere in so few calls
    done = Path("runs/disc")
    found = json.loads(evoken("evaluate", done, "--count", 2, "--json").stdout)
    run, losses = LearnRun.open(done), found["losses"]
    records = run.records()
    assert losses["start"] == pytest.approx(records[0].validation, rel=1e-6)
    assert losses["learned"] == pytest.approx(min(r.validation for r in records), rel=1e-6)
    assert losses["no_word"] == pytest.approx(run.loss_of_no_word(), rel=1e-6)
    for name in ("start", "no_word"):
        gain = found["gains"][f"over_{name}"]
        assert gain["value"] == pytest.approx(losses[name] - losses["learned"])
        assert gain["low"] < gain["value"] < gain["high"] and gain["n"] == 8
    learned = json.loads(evoken("learn", "--resume", done, "--json").stdout)
    for name in ("start", "no_word"):
        gain = found["gains"][f"over_{name}"]["value"]
        assert learned[f"gain_over_{name}"] == pytest.approx(gain, abs=1e-6)
    assert f"{losses['no_word']:.4f}" in (done / "report.html").read_text()


def test_a_thorough_evaluation_draws_two_sentences_more(done: Path) -> None:
    found = json.loads(evoken("evaluate", done, "--count", 2, "--thorough", "--json").stdout)
    assert found["calls"] == 2 * 11 * 2 * 20 + 24
    assert {"beside", "recoloured"} <= found.keys() and "both" not in found  # that the judge says


def test_a_scorer_gives_the_concept_score(done: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Dinov2Config(**small, image_size=28, patch_size=14, mlp_ratio=2)
    Dinov2Model(config).save_pretrained(tmp_path / "dino")
    plain = json.loads(evoken("evaluate", done, "--count", 2, "--json").stdout)
    scored = evoken("evaluate", done, "--count", 2, "--scorer", tmp_path / "dino", "--json")
    found = json.loads(scored.stdout)
    same = [name for name in LABELS if name in found and found[name] == plain[name]]
    assert same == ["prompt", "reconstruction", "editability"]
    assert (plain["scorer"], found["scorer"], found["seed"]) == (None, "dino", 0)
    assert json.loads((done / "scores.json").read_text())["scorer"] == "dino"
    with contextlib.chdir(tmp_path / "dino"):
        shown = evoken("evaluate", tmp_path / done, "--count", 2, "--scorer", ".").output
    assert "concept, dino" in shown and "prompt, dino" not in shown
    assert json.loads((done / "scores.json").read_text())["scorer"] == "dino"
    refused(evoken("evaluate", done, "--scorer", tmp_path / "none"), "--scorer", "config.json")


@pytest.fixture
def given(learn: Callable[..., Result]) -> Path:
    """A finished run from a start that is given: the loss of no word is measured beside it."""
    assert learn("--initialization", "attention").exit_code == 0
    return Path("runs/disc")


def test_a_run_that_ends_no_better_than_without_a_word_says_so(given: Path) -> None:
    for loss, said in (
        (0.0, "but no better than with no word at all"),
        (9.0, "below that of no word at all"),
    ):
        (given / "no_word.json").write_text(json.dumps({"loss": loss}))
        assert said in evoken("learn", "--resume", given).output
        text = (given / "report.html").read_text()
        assert ("no better than none" in text) == (loss == 0)
    (given / "no_word.json").unlink()  # a run of an older version
    write_report(LearnRun.open(given))
    assert "no word" not in (given / "report.html").read_text()


def test_a_run_that_ends_at_its_start_says_so(given: Path) -> None:
    result = LearnRun.open(given).result()
    at_start = result["gain_over_start"] == 0
    assert ("so the result is the start" in (given / "report.html").read_text()) is at_start
    for gain, advice in ((0.0, True), (0.1, False)):
        said = said_of_loss(result | {"gain_over_start": gain}, True)
        assert ("that of the start, as nothing better was found" in said) is advice
        assert ("Shorter steps (--fidelity 2)" in said) is advice
    worse = result | {"gain_over_start": -0.07}
    assert "0.0700 above that of the start," in said_of_loss(worse, True)
    said = said_of_loss(worse, False)
    assert said.endswith(". Another --seed or more calls may help."), said


def test_a_word_that_was_picked_is_scored_and_its_scores_are_not_the_runs(done: Path) -> None:
    assert evoken("evaluate", done, "--count", 2).exit_code == 0
    kept, report = (done / "scores.json").read_text(), (done / "report.html").read_text()
    assert evoken("pick", done, 1).exit_code == 0
    file = done / "picked" / "0001.safetensors"
    found = json.loads(evoken("evaluate", file, "--count", 2, "--json").stdout)
    run = LearnRun.open(done)
    best = min(record.validation for record in run.records()[:2])  # so far
    assert found["losses"]["learned"] == pytest.approx(best, rel=1e-4)
    assert not run.ended_with(load_word(file)) and run.ended_with(run.word())
    assert "keeps no scores" in evoken("evaluate", file, "--count", 2).output
    save_word(file, Word("<disc>", torch.zeros(1, 5)))
    refused(evoken("evaluate", file, "--count", 2), "width 5")
    assert (done / "scores.json").read_text() == kept
    assert (done / "report.html").read_text() == report


def test_scores_are_of_the_word_that_the_run_has_now(done: Path) -> None:
    assert evoken("evaluate", done, "--count", 2).exit_code == 0
    run = LearnRun.open(done)
    report = (done / "report.html").read_text()
    assert "<h2>Scores</h2>" in report and "gain over no word" in report
    score = Score.from_dict(run.evaluation()["start_and_learned"]["concept"][1])
    assert report.count(f"<td>{score}</td>") == 1
    heads = Page(done / "report.html").text.partition("Scores")[2]
    order = [
        "gain over start",
        "gain over no word",
        *(LABELS[n] for n in LABELS if LABELS[n] in heads),
    ]
    assert [heads.index(head) for head in order] == sorted(heads.index(head) for head in order)
    write_report(run)  # as a run that goes on does
    assert (done / "report.html").read_text() == report
    assert run.evaluation() == json.loads((done / "scores.json").read_text())
    other = Word("<disc>", run.word().vectors + 1, run.word().encoders)
    save_word(done / "learned_embeds.safetensors", other)
    assert run.evaluation() == {}
    write_report(run)
    assert "<h2>Scores</h2>" not in (done / "report.html").read_text()
    assert evoken("compare", done, shutil.copytree(done, "runs/other")).exit_code == 0
    assert "(evaluate)" not in Path("compare.html").read_text()


def test_what_cannot_be_scored_is_refused_before_a_picture_is_drawn(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    calls = model.calls
    with pytest.raises(SettingError, match="`count` must be from 2 to 1,000"):
        evaluate(model, clip, images, "cat", count=1)
    with pytest.raises(SettingError, match="`thorough` is for objects"):
        evaluate(model, clip, images, "cat", "style", 2, thorough=True)
    assert model.calls == calls


def test_the_start_is_the_one_that_was_chosen(
    model: StableDiffusion, clip: Clip, images: torch.Tensor, done: Path
) -> None:
    settings = preset(
        "default",
        placeholder="<disc>",
        initialization="lowest",
        calls=400,
        draws=2,
        popsize=5,
        validation_draws=8,
    )
    learner = Learner(settings, model, images, clip)
    chosen = learner.step()
    (done / "records.jsonl").write_text("")
    run = LearnRun.open(done)
    run.append(chosen)
    again = Learner(settings, model, images, clip)
    found = evaluate_run(run, again, run.word(), None, "", 2, 0, lambda prompt: None)
    assert found.losses["start"] == pytest.approx(chosen.validation, rel=1e-6)
    assert torch.equal(again.start.vectors, learner.start.vectors)


@pytest.mark.parametrize("failing", ["no word", "learned"])
def test_a_loss_that_is_not_finite_is_left_out(
    done: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in half precision, where a draw may overflow."""
    whole, count = DenoisingLoss.validation_losses, iter(range(3))
    wrong = ["no word", "start", "learned"].index(failing)

    def losses(self: DenoisingLoss, vectors: torch.Tensor) -> np.ndarray:
        found = whole(self, vectors)
        found[0] = np.nan if next(count) == wrong else found[0]
        return found

    monkeypatch.setattr(DenoisingLoss, "validation_losses", losses)
    result = evoken("evaluate", done, "--count", 2)
    assert result.exit_code == 0, result.output
    assert "not finite" in result.output
    scores = json.loads((done / "scores.json").read_text())
    key = failing.replace(" ", "_")
    assert scores["losses"].pop(key) is None and all(scores["losses"].values())
    without = {name for name, gain in scores["gains"].items() if gain is None}
    assert without == {"over_no_word"} | ({"over_start"} if failing == "learned" else set())


def test_the_loss_of_no_word_is_shown_from_the_beginning(given: Path) -> None:
    run = LearnRun.open(given)
    nothing = run.loss_of_no_word()
    assert json.loads((given / "no_word.json").read_text()) == {"loss": nothing}
    (given / "no_word.json").unlink()
    records = run.records()
    lines = (given / "records.jsonl").read_text().splitlines(keepends=True)
    (given / "records.jsonl").write_text("".join(lines[:2]))
    result = evoken("learn", "--resume", given)
    assert f"(no word {nothing:.4f})  sigma" in result.output
    assert run.loss_of_no_word() == nothing
    again = [replace(record, seconds=0) for record in run.records()]
    assert again == [replace(record, seconds=0) for record in records]  # no random number of it


def test_all_of_a_picture_counts_for_a_style(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    pictures = drawn(model, "cat", "style", 2, 0)
    assert len(pictures) == 5
    found = scores_of(pictures, clip, images, "style", masks=torch.zeros(4, 1, 16, 16))
    plain = pictures[KINDS["style"].plain]
    assert found.concept == concept_score(clip, plain, images, None)
    assert [*found.found()] == ["concept", "prompt", "diversity", "reconstruction", "editability"]
