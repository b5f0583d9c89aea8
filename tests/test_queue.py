"""Several folders in one command: one model, the words of single runs, and going on."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from evoken.errors import RunError, SearchError
from evoken.run_folder import held
from evoken.spec import ModelSpec
from evoken.textual_inversion import job, queue
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Record
from evoken.textual_inversion.queue import concept_of, learn_all
from evoken.textual_inversion.settings import preset
from tests.commands import QUICK, evoken, files, refused

pytestmark = pytest.mark.usefixtures("own_folder")
Learn = Callable[..., Result]


@pytest.fixture
def folders(photos: Path) -> list[Path]:
    """Three folders of different pictures."""
    found = [photos]
    for name, colour in (("ring", "cyan"), ("bar", "yellow")):
        folder = Path(shutil.copytree(photos, name))
        for file in folder.iterdir():
            with Image.open(file) as picture:
                picture.paste(colour, (2, 2, 38, 12))
                picture.save(file)
        found.append(folder)
    return found


@pytest.fixture
def learn_these(tiny_folder: Path) -> Learn:
    def run(*arguments: object) -> Result:
        model = ("--model", tiny_folder / "model", "--clip", tiny_folder / "clip")
        return evoken("learn", *model, *QUICK, *arguments)

    return run


def word(run: Path) -> bytes:
    return (run / "learned_embeds.safetensors").read_bytes()


def test_several_folders_give_the_words_of_single_runs_with_one_model(
    learn_these: Learn, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[ModelSpec] = []
    load = queue.started
    for module in (queue, job):
        monkeypatch.setattr(
            module,
            "started",
            lambda spec, *rest, **how: loaded.append(spec) or load(spec, *rest, **how),
        )
    result = learn_these(*folders)
    assert result.exit_code == 0, result.output
    assert len(loaded) == 1
    for i, name in enumerate(("disc", "ring", "bar"), 1):
        assert f"{i} of 3: <{name}>" in result.output
        assert f"Learned <{name}>." in result.output
    single = learn_these(folders[1], "--output", "alone")
    assert single.exit_code == 0 and word(Path("alone")) == word(Path("runs/ring"))
    assert word(Path("runs/ring")) != word(Path("runs/bar"))


def test_what_is_cheap_is_checked_before_the_model_is_loaded_for_one_word_as_for_several(
    learn_these: Learn,
    folders: list[Path],
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "started", None)
    monkeypatch.setattr(job, "started", None)
    same = os.path.relpath(tiny_folder / "model")
    for option, value, said in (
        ("--also", "nowhere", "--also must be"),
        ("--also", same, "must be another model"),
        ("--clip", "nowhere", "--clip"),
    ):
        for given in (folders, folders[:1]):
            refused(learn_these(*given, "--output", "no", option, value), said)
    assert not Path("no").exists()


def test_the_same_command_again_goes_on(
    learn_these: Learn, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert learn_these(*folders, "--output", "whole").exit_code == 0
    append = LearnRun.append

    def stop(run: LearnRun, record: Record) -> None:
        append(run, record)
        if run.settings.placeholder == "<ring>" and record.generation == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LearnRun, "append", stop)
        result = learn_these(*folders)
    assert result.exit_code == 130 and "Continue with the same command." in result.stderr
    assert not Path("runs/bar").exists()
    before = files(Path("runs/disc"))
    result = learn_these(*folders, "--json")
    assert result.exit_code == 0, result.output
    assert "1 of 3: <disc> is learned already" in result.stderr
    assert files(Path("runs/disc")) == before
    told = json.loads(result.stdout)["runs"]
    assert [run["placeholder"] for run in told] == ["<disc>", "<ring>", "<bar>"]
    single = json.loads(learn_these(folders[0], "--output", "one", "--json").stdout)
    for run in told:
        assert run.keys() == single.keys()
    assert told[0] | {k: single[k] for k in ("run", "word", "report")} == single
    for name in ("disc", "ring", "bar"):
        assert word(Path("runs") / name) == word(Path("whole") / name)


def test_one_that_fails_stops_no_other(
    learn_these: Learn, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    append = LearnRun.append

    def fail(run: LearnRun, record: Record) -> None:
        if run.settings.placeholder == "<ring>":
            raise SearchError("every candidate failed.", "Lower `sigma`.")
        append(run, record)

    monkeypatch.setattr(LearnRun, "append", fail)
    result = learn_these(*folders, "--json")
    assert result.exit_code == 2
    assert (
        "not all words were learned: <ring> failed (every candidate failed). Lower --sigma."
        in (result.stderr.splitlines()[-1])
    )
    told = json.loads(result.stdout)["runs"]
    assert told[1]["error"] == "every candidate failed. Lower --sigma."
    assert "error" not in told[0] and "calls" in told[2]


def test_what_cannot_be_is_refused_before_anything_is_written(
    learn_these: Learn, folders: list[Path]
) -> None:
    picture = folders[0] / "0.png"
    Path("other").mkdir()
    shutil.copytree(folders[0], "other/disc")
    Path("empty").mkdir()
    before = files(Path())
    for arguments, words in (
        ((*folders, picture), "disc/0.png is a file"),
        ((*folders, "other/disc"), "would both be runs/disc"),
        ((*folders, "missing"), "missing"),
        ((*folders, "empty"), "empty"),
        ((*folders, "--word", "<x>"), "--word can be given for one folder only"),
        ((*folders, "--resume", "runs/disc"), "--resume"),
        ((*folders, "--calls", 0), "--calls"),
        ((*folders, "--calls", 9), "--calls must be at least"),
        ((*folders, "--preview-prompt", "a cat"), "<disc>"),
    ):
        refused(learn_these(*arguments), words)
        assert files(Path()) == before and not Path("runs").exists()


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("St. Bernard", "St.-Bernard"),
        ("v1.5", "v1.5"),
        ("my cat's photos", "my-cat-s-photos"),
        ("Кот", "word"),
        ("...", "word"),
    ],
)
def test_a_concept_has_the_whole_name_of_its_folder(name: str, concept: str) -> None:
    Path(name).mkdir()
    assert concept_of(Path(name)) == concept
    (Path(name) / "cat.v2.png").touch()
    assert concept_of(Path(name) / "cat.v2.png") == "cat.v2"


def test_a_run_of_something_else_is_not_touched(learn_these: Learn, folders: list[Path]) -> None:
    assert learn_these(folders[1]).exit_code == 0
    before = files(Path("runs"))
    refused(learn_these(*folders, "--seed", 5), "runs/ring already exists", "other --seed")
    refused(learn_these(*folders, "--size", 8), "other --size")
    caption = folders[1] / "2.txt"
    caption.write_text("on a sofa")
    refused(learn_these(*folders), "runs/ring already exists", "other pictures, masks or captions")
    caption.unlink()
    mask = folders[1] / "2.mask.png"
    Image.linear_gradient("L").resize((40, 30)).save(mask)
    refused(learn_these(*folders), "runs/ring already exists", "other pictures, masks or captions")
    mask.unlink()
    with Image.open(folders[1] / "1.png") as one:
        one.transpose(Image.Transpose.ROTATE_180).save(folders[1] / "1.png")
    refused(learn_these(*folders), "runs/ring already exists", "other pictures, masks or captions")
    Path("runs/bar").mkdir()
    (Path("runs/bar") / "mine.txt").write_text("")
    refused(learn_these(folders[0], folders[2]), "runs/bar already exists and is no run")
    (Path("runs/bar") / "mine.txt").unlink()
    Path("runs/bar").rmdir()
    assert files(Path("runs")) == before


def test_from_python(tiny_folder: Path, folders: list[Path]) -> None:
    settings = preset(
        "default", placeholder="<any>", popsize=5, draws=4, validation_draws=8, calls=128, samples=0
    )
    model, clip = ModelSpec(str(tiny_folder / "model")), str(tiny_folder / "clip")
    runs = learn_all(folders[:2], settings, model, output="mine", clip=clip)
    assert [run.path for run in runs] == [Path("mine/disc"), Path("mine/ring")]
    assert [run.word().placeholder for run in runs] == ["<disc>", "<ring>"]
    with pytest.raises(RunError, match="its run has other `subspace`"):
        learn_all(folders, preset("paper", placeholder="<any>"), model, output="mine", clip=clip)


def test_what_changes_no_result_is_no_other_run(
    learn_these: Learn, folders: list[Path], tiny_folder: Path
) -> None:
    two = folders[:2]
    assert learn_these(*two).exit_code == 0
    assert evoken("learn", "--resume", "runs/disc", "--calls", 200).exit_code == 0
    before = files(Path("runs"))
    result = learn_these(*two, "--batch", 16)
    assert result.exit_code == 0 and result.output.count("is learned already") == 2
    assert files(Path("runs")) == before
    with held(Path("runs/ring")):
        refused(learn_these(*two), "another process is working on runs/ring")
