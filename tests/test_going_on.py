"""Runs that end early, go on after their end, or give another generation's word."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from typer.testing import Result

from evoken.cli.common import load_words
from evoken.errors import SettingError
from evoken.progress import Bar, Display
from evoken.textual_inversion import workflow
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.job import begun, pick, resume
from evoken.textual_inversion.job import finish as end
from evoken.textual_inversion.learn import Record
from evoken.words.word import load_word
from tests.commands import ONE_SENTENCE, evoken, files, refused

pytestmark = pytest.mark.usefixtures("own_folder")
Learn = Callable[..., Result]
RUN = Path("runs/disc")
LONG = ("--calls", 400, "--preview-every", 1, *ONE_SENTENCE)


@pytest.fixture
def interrupted(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that Ctrl-C stopped after its fourth generation."""
    preview = workflow.preview

    def stop(run: LearnRun, learner: object) -> None:
        preview(run, learner)  # type: ignore[arg-type]
        if len(run.records()) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "preview", stop)
        assert learn(*LONG).exit_code == 130
    return RUN


def test_an_interrupted_run_can_be_ended_and_still_goes_on(interrupted: Path) -> None:
    assert not LearnRun.open(RUN).finished
    result = evoken("finish", RUN)
    assert result.exit_code == 0, result.output
    assert "Learned <disc>" in result.output and f"evoken learn --resume {RUN}" in result.output
    run = LearnRun.open(RUN)
    assert run.finished and len(run.records()) == 4
    assert len(list(RUN.glob("samples/*.png"))) == 2
    run.scores_path.write_text("{}")
    ended = files(RUN)
    assert evoken("learn", "--resume", RUN).exit_code == 0
    run = LearnRun.open(RUN)
    assert run.finished and len(run.records()) > 4
    best = min(run.records(), key=lambda r: r.validation).generation
    if best > 3:  # another word: its pictures are drawn anew
        sheet = RUN / "samples/00-after.png"
        assert sheet.read_bytes() != ended[str(sheet)]
    # The scores of an earlier word are none of this one.
    assert run.scores_path.exists() == (best <= 3)


def test_what_was_ended_on_the_way_equals_what_never_was(
    interrupted: Path, learn: Learn, tmp_path: Path
) -> None:
    assert evoken("finish", RUN).exit_code == 0
    assert evoken("learn", "--resume", RUN).exit_code == 0
    whole = tmp_path / "whole"
    assert learn(*LONG, "--output", whole).exit_code == 0
    names = [p.relative_to(whole) for p in whole.glob("samples/*.png")]
    names += [Path("learned_embeds.safetensors")]
    for name in names:
        assert (RUN / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_run_without_a_generation_has_nothing_to_end_with(
    learn: Learn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(run: LearnRun, record: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LearnRun, "append", stop)
    assert learn().exit_code == 130
    refused(evoken("finish", RUN), "its first generation is not done", "--resume runs/disc")


def test_what_the_report_takes_is_said_and_counted_once(
    learn: Learn, photos: Path, tiny_folder: Path
) -> None:
    """The loss of no word is measured before the search, unless the run has it already."""
    assert "at most 128 calls, and 88 for previews and the report: about" in learn().output
    again = evoken("learn", "--resume", RUN, "--calls", 200)
    assert "at most 200 calls, and 80 for previews and the report: about" in again.output
    lowest = learn("--output", "lowest", "--initialization", "lowest")
    assert "at most 128 calls, and 80 for previews and the report: about" in lowest.output
    seen = Watched(Console(stderr=True, quiet=True))
    settings = LearnRun.open(RUN).settings
    names = (str(tiny_folder / "model"), str(tiny_folder / "clip"))
    with begun("watched", photos, settings, *names, display=seen) as job:
        job.finish(seen)
    done, total = seen.steps[-1]
    assert done == total == 8 + LearnRun.open("watched").records()[-1].calls


class Watched(Display):
    """Keeps what the bar shows: how much is done, and of how much."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.steps: list[tuple[float, float]] = []

    @contextmanager
    def bar(self, text: str, total: float) -> Iterator[Bar]:
        with super().bar(text, total) as bar:
            update = bar.update

            def kept(text: str, done: float, total: float | None = None) -> None:
                self.steps.append((done, total or 0.0))
                update(text, done, total)

            bar.update = kept  # type: ignore[method-assign]
            yield bar


def test_a_finished_run_is_extended(done: Path) -> None:
    lines = (done / "records.jsonl").read_text()
    planned = LearnRun.open(done).settings.calls
    result = evoken("learn", "--resume", done, "--calls", 260)
    assert result.exit_code == 0, result.output
    after = LearnRun.open(done)
    assert (done / "records.jsonl").read_text().startswith(lines)
    assert len(after.records()) > len(lines.splitlines())
    assert after.settings.calls == 260 and after.planned_calls == planned
    assert after.finished


def test_an_extended_run_equals_itself_when_interrupted(
    learn: Learn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert learn().exit_code == 0
    assert evoken("learn", "--resume", RUN, "--calls", 400).exit_code == 0
    assert learn("--output", tmp_path / "again").exit_code == 0
    append = LearnRun.append

    def once(run: LearnRun, record: object) -> None:
        append(run, record)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LearnRun, "append", once)
        assert evoken("learn", "--resume", tmp_path / "again", "--calls", 400).exit_code == 130
    assert evoken("learn", "--resume", tmp_path / "again").exit_code == 0

    def told(run: Path) -> list[Record]:
        return [replace(record, seconds=0) for record in LearnRun.open(run).records()]

    assert told(tmp_path / "again") == told(RUN)


def test_a_budget_that_leaves_nothing_to_do_is_refused_and_changes_nothing(done: Path) -> None:
    before = files(done)
    result = evoken("learn", "--resume", done, "--calls", 130)
    start, first, *others = LearnRun.open(done).records()
    least = [first, *others][-1].calls + first.calls - start.calls
    refused(result, f"at least {least} (got 130)", "Raise --calls")
    refused(evoken("learn", "--resume", done, "--calls", least - 1), f"at least {least}")
    refused(evoken("learn", "--resume", done, "--calls", 0), "--calls must be from 1 to")
    refused(evoken("learn", "--resume", done, "--sigma", 1), "--sigma cannot be given")
    assert files(done) == before
    with pytest.raises(SettingError, match="no setting called 'sigma'"):
        resume(done, sigma=1.0)
    assert evoken("learn", "--resume", done, "--calls", least).exit_code == 0
    assert LearnRun.open(done).records()[-1].calls == least


def test_where_nothing_is_left_to_learn_the_way_on_is_a_larger_budget(done: Path) -> None:
    planned = LearnRun.open(done).settings.calls
    on = f"evoken learn --resume {done} --calls {2 * planned}"
    ended, again = evoken("finish", done), evoken("learn", "--resume", done)
    assert f"after all: {on}" in ended.output and f"type: {on}" in again.output
    assert "Nothing is left to learn for <disc>" in again.output
    assert "Learning" not in again.output


def test_a_dry_run_is_refused_where_the_run_would_be(learn: Learn) -> None:
    assert learn("--dry-run").exit_code == 0 and not RUN.exists()
    RUN.mkdir(parents=True)
    (RUN / "notes.txt").write_text("mine")
    refused(learn("--dry-run"), str(RUN), "--output")


def test_the_way_on_names_every_budget_that_is_used_up(learn: Learn) -> None:
    how = ("--search", "random", "--sigma", 1e-4, "--preview-every", 0, "--samples", 0)
    assert learn(*how, "--calls", 3000, "--patience", 3).exit_code == 0
    spent = LearnRun.open(RUN).records()[-1].calls
    shutil.rmtree(RUN)  # the same again, ended by calls and patience at once
    assert learn(*how, "--calls", spent, "--patience", 3).exit_code == 0
    result = evoken("learn", "--resume", RUN)
    on = f"evoken learn --resume {RUN} --calls {2 * spent} --patience 0"
    assert f"type: {on}\n" in result.output
    assert evoken(*on.split()[1:]).exit_code == 0
    assert LearnRun.open(RUN).records()[-1].calls > spent


def test_the_way_on_is_longer_than_a_generation_takes(learn: Learn) -> None:
    assert learn("--minutes", 1e-4, "--preview-every", 0, "--samples", 0).exit_code == 0
    spent = LearnRun.open(RUN).records()[-1].seconds / 60
    assert spent > 2e-4
    on = evoken("learn", "--resume", RUN).output.partition("type: ")[2].splitlines()[0].split()
    assert on[-2] == "--minutes" and 1.8 * spent < float(on[-1]) < 2.2 * spent
    assert evoken(*on[1:]).exit_code == 0


def test_a_budget_that_is_not_the_one_that_is_used_up_names_that(done: Path) -> None:
    for other in ("--patience", "--minutes"):
        result = evoken("learn", "--resume", done, other, 3)
        refused(result, "the run has spent", "Give --calls, too: at least")


def test_learning_ends_when_the_loss_stays_flat(learn: Learn) -> None:
    # Steps so small that nothing gets better for long.
    how = ("--search", "random", "--sigma", 1e-4, "--preview-every", 0, "--samples", 0)
    result = learn(*how, "--patience", 2, "--calls", 3000)
    assert result.exit_code == 0, result.output
    records = LearnRun.open(RUN).records()
    losses = [r.validation for r in records]
    assert len(records) < 3000 // 28
    assert min(losses[-2:]) >= min(losses[:-2]), "the last two are no better"
    for i in range(2, len(losses) - 1):
        assert min(losses[i - 1 : i + 1]) < min(losses[: i - 1]), "it would have ended earlier"
    result = evoken("learn", "--resume", RUN, "--calls", 6000)
    refused(result, "a patience of 2 generations", "--patience")
    assert evoken("learn", "--resume", RUN, "--patience", 3).exit_code == 0
    assert len(LearnRun.open(RUN).records()) > len(records)


def test_another_generations_word_is_picked(interrupted: Path) -> None:
    result = evoken("pick", RUN, 1)
    assert result.exit_code == 0 and "picked/0001.safetensors" in result.output
    picked = RUN / "picked/0001.safetensors"
    with safe_open(picked, "pt") as file:
        assert json.loads(file.metadata()["evoken"])["generation"] in ("0", "1")
    # The model of its run goes with it.
    words, specs = load_words([str(picked)])
    assert specs == [LearnRun.open(RUN).spec] and words[0].placeholder == "<disc>"
    result = evoken("generate", "a <disc>", "--word", picked, "--count", 4, "--output", "drawn")
    assert result.exit_code == 0, result.output


def test_the_model_of_a_word_is_looked_up_in_runs_of_learn_alone(done: Path) -> None:
    spec = LearnRun.open(done).spec
    word = (done / "learned_embeds.safetensors").read_bytes()
    for place in (done, done / "learned_embeds.safetensors"):
        assert load_words([str(place)])[1] == [spec]
    # An edit keeps the words in its prompts, and is not where they were learned.
    config = json.loads((done / "config.json").read_text())
    (done / "config.json").write_text(json.dumps(config | {"command": "edit"}))
    assert load_words([str(done / "learned_embeds.safetensors")])[1] == []
    Path("other").mkdir()
    Path("other/config.json").write_text("{}")  # of anything else
    Path("other/word.safetensors").write_bytes(word)
    assert load_words(["other/word.safetensors"])[1] == []


def test_the_word_of_each_generation_is_the_one_that_its_preview_shows(learn: Learn) -> None:
    assert learn("--preview-every", 0, "--samples", 0).exit_code == 0
    run = LearnRun.open(RUN)
    losses = [r.validation for r in run.records()]
    best = losses.index(min(losses))
    assert torch.equal(load_word(pick(RUN, best)).vectors, run.word().vectors)
    assert torch.equal(load_word(pick(RUN, len(losses) - 1)).vectors, run.word().vectors)
    if best:
        assert not torch.equal(load_word(pick(RUN, 0)).vectors, run.word().vectors)
    assert end(RUN).finished


def test_what_cannot_be_picked_is_said(done: Path) -> None:
    last = len(LearnRun.open(done).records()) - 1
    refused(evoken("pick", done), "NUMBER", f"evoken pick {done} 10")
    refused(evoken("pick", done, last + 1), f"NUMBER must be from 0 to {last} (got {last + 1})")
    refused(evoken("pick", "nowhere", 1), "nowhere is not a run folder", "it does not exist")
    (done / "records.jsonl").write_text("")
    said = "has no word yet: its first generation is not done.", f"evoken learn --resume {done}"
    refused(evoken("pick", done, 0), *said)
    refused(evoken("finish", done), *said)
