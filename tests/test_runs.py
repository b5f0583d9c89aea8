"""Many runs: what ``evoken runs`` lists, and ``evoken compare`` puts side by side."""

import errno
import fcntl
import json
import shutil
import threading
from pathlib import Path

import pytest
from PIL import Image

from evoken.errors import RunError
from evoken.models.provenance import versions
from evoken.run_folder import check_new, held, is_held, made, said_of_versions
from evoken.textual_inversion.folder import LearnRun
from tests.commands import evoken, refused
from tests.test_pages import NASTY, Page, change, changed
from tests.test_pages import edit as edit

pytestmark = pytest.mark.usefixtures("own_folder")


def listed(*arguments: object) -> dict[str, dict[str, object]]:
    """What ``evoken runs --json`` says, by run."""
    result = evoken("runs", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return {found["run"]: found for found in json.loads(result.stdout)["runs"]}


def test_runs_are_listed_with_what_they_are_and_how_far(done: Path, edit: object) -> None:
    run, cut = LearnRun.open(done), Path(shutil.copytree(done, "runs/more/cut"))
    (cut / "report.html").unlink()
    lines = (cut / "records.jsonl").read_text().splitlines(keepends=True)
    (cut / "records.jsonl").write_text("".join(lines[:2]))
    found = listed()
    assert [*found] == ["runs/disc", "runs/house-edit", "runs/more/cut"]
    whole, part, changed_one = found["runs/disc"], found["runs/more/cut"], found["runs/house-edit"]
    assert (whole["command"], whole["about"], whole["model"]) == ("learn", "<disc>", "model")
    assert whole["state"] == "finished" and whole["calls"] == run.records()[-1].calls
    assert whole["loss"] == min(r.validation for r in run.records())
    assert whole["gain"] == run.loss_of_no_word() - whole["loss"]
    assert changed_one["gain"] is None
    assert whole["score"] == run.scores()[max(run.scores())].value
    assert whole["date"] == run.config["began"][:10]
    assert part["state"] == "interrupted" and part["total"] == 128
    assert changed_one["about"] == "a cat -> a dog" and changed_one["command"] == "edit"
    table = evoken("runs").stdout.splitlines()
    assert table[0].split()[:3] == ["run", "made", "by"]
    assert len({line.find("learn") for line in table if "learn" in line}) == 1
    assert f"interrupted at {part['calls']} of 128 calls" in table[3]
    assert listed("runs/disc")["runs/disc"] == whole
    assert whole["left"] == 0 < part["left"]


def test_the_format_of_run_folders_is_what_it_was(done: Path, edited: Path) -> None:
    """A higher one is refused by all versions that do not know it."""
    assert LearnRun.open(done).config["format"] == 1
    assert json.loads((edited / "config.json").read_text())["format"] == 1


def test_previews_of_two_versions_are_shown_by_the_later_ones_score(done: Path) -> None:
    """Earlier versions kept CLIP's score, without its name; the two cannot be compared."""
    run = LearnRun.open(done)
    first, *_, last = (generation for generation, _ in run.previews())
    assert run.score_name == "concept" and {first, last} <= run.scores().keys()
    value = {"value": 0.25, "low": 0.2, "high": 0.3}
    run.score_path(first).write_text(json.dumps(value))
    assert run.score_name == "concept" and first not in run.scores() and last in run.scores()
    run.score_path(last).write_text(json.dumps(value | {"score": "CLIP"}))
    assert run.score_name == "CLIP" and run.scores()[first].value == 0.25
    assert {first, last} == run.scores().keys()
    for generation, _ in run.previews():
        run.score_path(generation).unlink(missing_ok=True)
    assert run.score_name == "concept" and run.scores() == {}


def test_a_preview_is_a_row_of_four_pictures(done: Path) -> None:
    with Image.open(done / "previews" / "0000.png") as preview:
        assert preview.width > 4 * preview.height > preview.width - preview.height


def test_only_versions_that_are_other_ones_are_noted() -> None:
    here = versions()
    assert said_of_versions({"versions": here}) == said_of_versions({}) == ""
    said = said_of_versions({"versions": here | {"torch": "1.0.0", "a package": "2.0.0"}})
    assert "torch '1.0.0';" in said and "diffusers" not in said and "package" not in said


def test_nobody_works_where_no_run_has_begun(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert not is_held(tmp_path / "nothing") and not is_held(tmp_path / "file")


def test_file_systems_without_locks_are_taken(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert not is_held(done)
    with held(done):
        pass


def test_who_only_looks_keeps_nobody_from_work(done: Path) -> None:
    with (done / "config.json").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, looking.close)
        timer.start()
        with held(done):
            pass
        timer.join()


def test_a_run_that_is_worked_on_is_running(done: Path) -> None:
    with held(done):
        assert listed()["runs/disc"]["state"] == "running"
    assert listed()["runs/disc"]["state"] == "finished"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"format": 1}'),
        ("config.json", '{"format": 99}'),
        ("config.json", '{"format": 1, "settings": {"colour": 1}, "model": {}}'),
        ("config.json", None),
        ("records.jsonl", "{}\n{}\n"),
    ],
)
def test_damaged_runs_are_listed_with_their_reason(
    done: Path, file: str, content: str | None
) -> None:
    shutil.copytree(done, "runs/whole")
    (done / file).unlink() if content is None else (done / file).write_text(content)
    found = listed()
    assert found["runs/disc"]["state"] == "damaged" and found["runs/disc"]["reason"]
    assert found["runs/whole"]["state"] == "finished"
    result = evoken("runs")
    assert result.exit_code == 0 and "Traceback" not in result.output and "`" not in result.output


def test_an_edit_that_is_damaged_is_listed(edit: object) -> None:
    path = Path("runs/house-edit")
    change(path, sources=7)
    assert listed()["runs/house-edit"]["state"] == "damaged"
    (path / "records.jsonl").write_text('{"iteration": 0}\n')
    assert listed()["runs/house-edit"]["state"] == "damaged"


def test_foreign_text_stays_on_its_line(done: Path) -> None:
    changed(done, "settings", placeholder="<a>\n\x1b[31mred" + 80 * "x")
    (done / "records.jsonl").write_text("")
    table = evoken("runs").stdout
    assert len(table.splitlines()) == 2 and "\x1b" not in table and max(map(len, table)) < 400


def test_folders_without_runs(tiny_folder: Path) -> None:
    assert listed(tiny_folder) == {}  # a model's folders have a config.json too
    assert "There are no runs" in evoken("runs", tiny_folder).stdout
    refused(evoken("runs", "nowhere"), "nowhere", "Give the folder")


@pytest.fixture
def two(done: Path) -> tuple[Path, Path]:
    """Two runs that differ in their seed."""
    other = Path(shutil.copytree(done, "runs/other"))
    changed(other, "settings", seed=7)
    return done, other


def test_runs_side_by_side(two: tuple[Path, Path]) -> None:
    value = {"value": 0.5, "low": 0.4, "high": 0.6}
    scores = {"start_and_learned": {"judge": [value, value]}}
    (two[1] / "scores.json").write_text(json.dumps(scores))
    result = evoken("compare", *two)
    assert result.exit_code == 0 and "compare.html" in result.stdout, result.output
    page = Page(Path("compare.html"))
    assert "same noise for every word" in page.text
    assert "judge: recognised (evaluate)0.500 [0.400, 0.600]" in page.text
    assert "were evaluated" not in page.text and "cannot be compared" not in page.text
    assert "other random draws, as the seeds" in page.text
    settings = page.text.partition("Settings that differ")[2].partition("Curves")[0]
    assert settings.split() == ["discother", "seed07"]
    alt = "4 pictures of “a photo of a <disc> on the beach”, drawn with the learned word"
    assert page.all("img", "alt").count(alt) == 2
    assert [tag for tag, _ in page.tags].count("polyline") == 4
    links = page.all("a", "href")
    assert "runs/other/samples/00-after.png" in links and all(Path(x).is_file() for x in links)
    assert str(Path.cwd()) not in Path("compare.html").read_text()


def test_scores_of_different_evaluations_are_told_apart(two: tuple[Path, Path]) -> None:
    value = {"value": 0.5, "low": 0.4, "high": 0.6}
    scores = {"concept": [value, value], "editability": [value, value]}
    pairs = {"start_and_learned": scores, "gains": {"over_no_word": value, "over_start": None}}
    about = {"count": 16, "steps": 10, "seed": 0}
    abouts = (about, about | {"seed": 3, "scorer": "dino<b>"})
    for run, about in zip(two, abouts, strict=True):
        (run / "scores.json").write_text(json.dumps(about | pairs))
    assert evoken("compare", *two).exit_code == 0
    said = Page(Path("compare.html")).text
    assert (
        "The words were evaluated with 16 pictures of each sentence in 10 steps from seed 0 and 16 "
        "pictures of each sentence in 10 steps from seed 3: these scores cannot be compared."
    ) in said
    one = "0.500 [0.400, 0.600]"
    rows = said.splitlines()
    assert f"concept (evaluate){one}" in rows and f"concept, dino<b> (evaluate){one}" in rows
    assert "gain over no word (evaluate)" + 2 * "0.5000 [0.4000, 0.6000]" in rows
    assert not [row for row in rows if row.startswith("gain over start (evaluate)")]
    gain = {path.name: found["gain"] for path, found in zip(two, listed().values(), strict=True)}
    assert f"gain over no word{gain['disc']:.4f}{gain['other']:.4f}" in rows
    assert f"CLIP-T, for comparison (evaluate){one}{one}" in rows


def test_runs_whose_losses_are_of_other_things_are_said_to_be(two: tuple[Path, Path]) -> None:
    for other, said in (({"t_low": 0.1}, "noise levels"), ({"kind": "style"}, "kinds of sen")):
        changed(two[1], "settings", **other)
        assert evoken("compare", *two, "--force").exit_code == 0
        page = Page(Path("compare.html")).text
        assert f"learned with different {said}" in page and "losses cannot be compared" in page


def test_runs_of_different_models_and_images_are_said_to_be(two: tuple[Path, Path]) -> None:
    changed(two[1], "model", name=f"/home/x/{NASTY.replace('/', '')}")
    changed(two[1], "settings", placeholder=NASTY)
    given = json.loads((two[1] / "inputs.json").read_text())
    given[0]["sha256"] = "0"
    (two[1] / "inputs.json").write_text(json.dumps(given))
    Path("pages").mkdir()
    result = evoken("compare", *two, "--output", "pages/page.html", "--json")
    assert json.loads(result.stdout)["page"] == "pages/page.html"
    page = Page(Path("pages/page.html"))
    assert "learned on different models" in page.text and "different images" in page.text
    assert "a photo of a <word> on the beach" in page.text and NASTY in page.text
    assert not [tag for tag, _ in page.tags if tag == "script"] and "/home" not in page.text
    assert not page.all("a", "href")  # the runs are not below the page's folder


def test_what_cannot_be_compared_is_refused(two: tuple[Path, Path], edit: object) -> None:
    refused(evoken("compare", two[0]), "two or more different runs")
    refused(evoken("compare", two[0], "runs/../runs/disc"), "two or more different runs")
    refused(evoken("compare", two[0], "runs/house-edit"), "made by 'evoken edit'")
    refused(evoken("compare", two[0], "nowhere"), "nowhere", "not a run folder")
    Path("compare.html").write_text("mine")
    refused(evoken("compare", *two), "compare.html already exists", "--output", "--force")
    assert Path("compare.html").read_text() == "mine"
    assert evoken("compare", *two, "--force").exit_code == 0
    (two[1] / "report.html").unlink()
    refused(evoken("compare", *two, "--force"), "runs/other is not finished", "--resume runs/other")
    (two[1] / "report.html").touch()
    (two[1] / "records.jsonl").write_text("{}\n{}\n")
    refused(evoken("compare", *two, "--force"), "records.jsonl is damaged")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, ""),
        ({"began": "2026-05-31T10:00:00+00:00"}, "on 2026-05-31"),
        ({"versions": {"torch": "2.13", "evoken": "1.0"}}, "with evoken 1.0 and torch 2.13"),
        (
            {
                "began": "2026-05-31T10:00:00+00:00",
                "versions": {"evoken": "1.0", "torch": "2.13", "diffusers": "0.42", "other": "3"},
            },
            "on 2026-05-31 with evoken 1.0, torch 2.13 and diffusers 0.42",
        ),
    ],
)
def test_when_and_with_what_a_run_was_made(config: dict[str, object], said: str) -> None:
    assert made(config) == said


def test_a_run_may_begin_in_an_empty_folder_and_in_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("empty", "new"):
        check_new(tmp_path / name)
    for name in ("full", "file", "link"):
        with pytest.raises(RunError, match="already exists"):
            check_new(tmp_path / name)
