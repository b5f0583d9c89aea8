"""Words that are learned on from another learned word."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from typer.testing import Result

import evoken as library
from evoken.errors import SettingError, WordError
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.textual_inversion import workflow
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import LearnSettings, preset
from evoken.textual_inversion.start_file import keep_start, kept_start
from evoken.words.places import names_word
from evoken.words.word import Word, load_word, save_word
from tests import tiny
from tests.commands import ONE_SENTENCE, evoken, files, refused
from tests.conftest import make_photos
from tests.words import a1111_dict, pt, save, vectors

pytestmark = pytest.mark.usefixtures("own_folder")
Learn = Callable[..., Result]
RUN = Path("runs/disc")
FRIEND = vectors(tiny.WIDTH, 2)


@pytest.fixture
def friend(tmp_path: Path) -> Path:
    """A friend's word of two vectors, in a folder whose name nobody is to read."""
    file = tmp_path / "secret" / "friend.pt"
    file.parent.mkdir()
    file.write_bytes(pt(a1111_dict(FRIEND)))
    return file


def start_of(run: Path) -> torch.Tensor:
    """The vectors that the first record of a run belongs to."""
    return load_word(run / "start.safetensors").vectors


# What `start` means.


@pytest.mark.parametrize(
    ("text", "is_place"),
    [
        ("cat", False),
        ("a red house", False),
        ("#1 cat", False),
        ("cat\0", False),
        ("c" * 5000, False),
        ("runs/cat", True),
        ("owner/name@main/file.pt", True),
        ("none.safetensors", True),
        ("none.PT", True),
        ("none.bin#cat", True),
        ("none.png", True),
    ],
)
def test_a_place_is_told_from_a_word_by_its_text(text: str, is_place: bool) -> None:
    assert names_word(text) == is_place


def test_only_a_folder_that_holds_a_word_wins_over_the_word(done: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "cat")
    assert not names_word("cat")
    assert LearnSettings("<x>", start="cat").initialization == "word"
    shutil.copytree(done, "dog")
    Path("bird").write_bytes(pt(a1111_dict(FRIEND)))
    Path("script").mkdir()
    Path("script/learned_embeds-steps-50.safetensors").write_bytes(save({"<x>": FRIEND}))
    for place, count in (("dog", 1), ("bird", 2), ("bird#*", 2), ("script", 2)):
        settings = LearnSettings("<x>", start=place, kind="style")
        assert (settings.initialization, settings.vectors) == ("file", count), place
    # Who says how it is meant is understood.
    assert LearnSettings("<x>", start="dog", initialization="word", kind="style").vectors == 3


def test_the_file_says_how_many_vectors_where_nobody_does(friend: Path) -> None:
    assert LearnSettings("<x>", start=str(friend)).vectors == 2
    assert preset("paper", placeholder="<x>", start=str(friend)).vectors == 2
    assert LearnSettings("<x>", start=str(friend), vectors=5).vectors == 5
    assert LearnSettings("<x>", start="a/b", initialization="word").vectors == 1


def test_settings_that_are_written_down_need_no_file(friend: Path) -> None:
    settings = LearnSettings("<x>", start=str(friend))
    friend.unlink()
    assert LearnSettings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize("how", ["word", "file"])
def test_an_initialization_from_something_needs_a_start(how: str) -> None:
    with pytest.raises(SettingError, match=f"'{how}' needs a `start`"):
        LearnSettings("<x>", initialization=how)


# Where the search begins.


@pytest.mark.parametrize("count", [2, 4])
def test_the_search_begins_with_the_words_vectors(
    model: StableDiffusion, images: torch.Tensor, friend: Path, count: int
) -> None:
    settings = LearnSettings("<x>", start=str(friend), vectors=count, draws=4, validation_draws=8)
    origin = Learner(settings, model, images, None).start.vectors
    assert torch.equal(origin, FRIEND[[0, *[1] * (count - 1)]])
    given = Word("<other>", FRIEND + 1, model.encoders)
    learner = Learner(settings, model, images, None, learned=given)
    assert torch.equal(learner.start.vectors[:2], FRIEND + 1)
    assert learner.start.placeholder == "<x>"


def test_the_mistakes_of_the_paper_change_a_learned_start_too(
    model: StableDiffusion, images: torch.Tensor, friend: Path
) -> None:
    settings = LearnSettings(
        "<x>", start=str(friend), mistakes=("unit-norm", "added-mean"), draws=4, validation_draws=8
    )
    found = Learner(settings, model, images, None).start.vectors
    expected = torch.nn.functional.normalize(FRIEND, dim=1) + model.vocabulary().vectors.mean(0)
    assert torch.allclose(found, expected)


def test_a_run_goes_on_from_another_run(learn: Learn, done: Path) -> None:
    result = learn("--start", done, "--output", "runs/again", "--samples", 4)
    assert result.exit_code == 0, result.output
    assert f"Starting from the word <disc> in {done}." in result.output
    assert torch.equal(start_of(Path("runs/again")), load_word(done).vectors)
    first, again = LearnRun.open(done), LearnRun.open("runs/again")
    assert again.settings.placeholder == first.settings.placeholder == "<disc>"
    # The same validation draws judge the end of the one run and the start of the other.
    best = min(record.validation for record in first.records())
    assert again.records()[0].validation == pytest.approx(best, rel=1e-6)
    # What the report shows as the start is the first run's word.
    shown = (again.sample_path(0, "before"), first.sample_path(0, "after"))
    assert shown[0].read_bytes() == shown[1].read_bytes()


def test_learning_from_python_starts_there_too(tiny_folder: Path, photos: Path, done: Path) -> None:
    settings = library.preset(
        "default",
        placeholder="<x>",
        start=str(done),
        popsize=5,
        draws=4,
        validation_draws=8,
        calls=128,
        samples=0,
    )
    run = library.learn_into("runs/x", photos, settings, str(tiny_folder / "model"))
    start = run.start()
    assert start is not None and torch.equal(start.vectors, load_word(done).vectors)


# What is refused, before anything is written.


def test_a_missing_file_is_told_before_the_model_is_loaded(learn: Learn) -> None:
    for more in ((), ("--vectors", 2)):
        result = learn("--start", "none.pt", "--model", "no/model", *more)
        refused(result, "no run folder or embedding file", "none.pt")
    assert not Path("runs").exists()


def test_a_file_without_a_word_is_refused(learn: Learn, photos: Path) -> None:
    refused(learn("--start", photos / "0.png"), "0.png")
    refused(learn("--start", photos), "no run folder or embedding file with a word", "disc")
    assert not Path("runs").exists()


def test_a_word_of_more_vectors_is_refused(learn: Learn, friend: Path) -> None:
    refused(learn("--start", friend, "--vectors", 1), "--vectors must be at least 2", "(got 1)")
    assert not Path("runs").exists()


def test_a_word_of_another_model_is_refused(learn: Learn) -> None:
    save_word("other.safetensors", Word("<x>", vectors(768), {"clip_l": 768}))
    refused(learn("--start", "other.safetensors"), "needs a word of width 16 (got width 768)")
    assert not Path("runs").exists()


# What the run folder keeps.


def test_a_resumed_run_needs_nothing_from_outside(
    learn: Learn, friend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ("--start", friend, "--vectors", 3, "--calls", 300, "--preview-every", 1, *ONE_SENTENCE)
    assert learn(*how, "--output", "runs/whole").exit_code == 0
    preview = workflow.preview

    def stop(run: LearnRun, learner: object) -> None:
        preview(run, learner)  # type: ignore[arg-type]
        if len(run.records()) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "preview", stop)
        assert learn(*how).exit_code == 130
    friend.unlink()
    result = evoken("learn", "--resume", RUN)
    assert result.exit_code == 0, result.output
    resumed, whole = files(RUN), files(Path("runs/whole"))
    timed = ("config.json", "records.jsonl", "curves.csv", "report.html", "README.md")
    for name, content in whole.items():
        if not name.endswith(timed):
            assert resumed[name.replace("runs/whole", str(RUN))] == content, name
    runs = LearnRun.open(RUN), LearnRun.open("runs/whole")
    losses, others = ([(r.losses, r.validation) for r in run.records()] for run in runs)
    assert losses == others and len(losses) > 2
    result = evoken("evaluate", RUN, "--count", 2)
    assert result.exit_code == 0, result.output
    assert evoken("pick", RUN, 0).exit_code == 0
    assert torch.equal(load_word(RUN / "picked/0000.safetensors").vectors, start_of(RUN))


def test_a_phrase_stays_one_when_a_folder_of_its_name_comes(learn: Learn, done: Path) -> None:
    assert learn("--start", "cat", "--output", "runs/x").exit_code == 0
    shutil.copytree(done, "cat")
    assert names_word("cat")
    result = evoken("learn", "--resume", "runs/x", "--calls", 200)
    assert result.exit_code == 0, result.output
    run = LearnRun.open("runs/x")
    assert run.start() is None and not (run.path / "start.safetensors").exists()


@pytest.mark.parametrize("damage", ["missing", "not as it was written"])
def test_a_damaged_start_is_refused(learn: Learn, friend: Path, damage: str) -> None:
    assert learn("--start", friend).exit_code == 0
    file = RUN / "start.safetensors"
    if damage == "missing":
        file.unlink()
    else:
        save_word(file, Word("<disc>", FRIEND + 1))
    before = files(RUN)
    refused(evoken("learn", "--resume", RUN, "--calls", 300), "start.safetensors", damage)
    assert files(RUN) == before


def test_what_is_published_has_the_names_and_no_path(
    learn: Learn, friend: Path, done: Path
) -> None:
    run = Path("runs/again")
    assert learn("--start", friend, *ONE_SENTENCE, "--output", run).exit_code == 0
    for name in ("README.md", "report.html", "start.safetensors", "learned_embeds.safetensors"):
        assert b"secret" not in (run / name).read_bytes(), name
    assert "started from the word \\<my cat\\>" in (run / "README.md").read_text()
    report = (run / "report.html").read_text()
    assert "friend.pt" in report and "started from the learned word &lt;my cat&gt;" in report
    with safe_open(run / "learned_embeds.safetensors", "pt") as content:
        assert json.loads(content.metadata()["evoken"])["start"] == "<my cat>"
    assert evoken("compare", run, done, "--output", "compare.html").exit_code == 0
    compared = Path("compare.html").read_text()
    assert "friend.pt" in compared and "secret" not in compared


def test_a_name_that_a_layout_has_a_meaning_for_is_no_obstacle(learn: Learn) -> None:
    Path("odd.pt").write_bytes(pt(a1111_dict(FRIEND) | {"name": "bundle_emb.x.clip_l"}))
    assert learn("--start", "odd.pt").exit_code == 0
    assert torch.equal(start_of(RUN), FRIEND)
    assert evoken("learn", "--resume", RUN, "--calls", 200).exit_code == 0


def test_the_vectors_of_several_encoders_are_kept(tmp_path: Path) -> None:
    word = Word("<my cat>", vectors(768 + 1280, 3), {"clip_l": 768, "clip_g": 1280})
    said = keep_start(tmp_path, word, LearnSettings("<x>", start="a/b.pt#c", vectors=3))
    assert said["name"] == "b.pt#c" and said["placeholder"] == "<my cat>"
    kept = kept_start(tmp_path, {"start": said})
    assert torch.equal(kept.vectors, word.vectors) and kept.encoders == word.encoders


def test_one_of_several_words_in_a_file(learn: Learn) -> None:
    Path("many.safetensors").write_bytes(save({"a": FRIEND, "b": FRIEND + 1}))
    assert learn("--start", "many.safetensors#b").exit_code == 0
    assert torch.equal(start_of(RUN), FRIEND + 1)


def test_a_missing_start_is_a_word_error_from_python() -> None:
    with pytest.raises(WordError, match="no run folder or embedding file"):
        preset("default", placeholder="<x>", start="none.safetensors")
