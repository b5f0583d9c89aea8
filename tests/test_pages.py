"""What is shown of a run: pages that hold any text, fit a phone, and carry no path."""

import base64
import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.report import write_report as write_flow_report
from evoken.images import grid
from evoken.models.bases import FLUX, SD1, Base
from evoken.models.provenance import public_name, without_paths
from evoken.page import MOST_WIDE, Curve, chart, picture
from evoken.pictures.drawing import SHEET_SCALE
from evoken.spec import ModelSpec
from evoken.textual_inversion.card import write_card
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.report import write_report
from evoken.words.word import Word, save_word

pytestmark = pytest.mark.usefixtures("own_folder")
NASTY = "<script>alert(\"1\")</script> & 'quotes'"


class Page(HTMLParser):
    """The parts of a page: tags with their attributes, and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, attribute: str) -> list[str]:
        """The values of an attribute of all tags of a kind that have it."""
        return [
            str(about[attribute]) for name, about in self.tags if name == tag and attribute in about
        ]


def change(run: Path, **values: Any) -> None:
    """Change a run's ``config.json``."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | values))


def changed(run: Path, part: str, **values: Any) -> None:
    """Change a part of a run's ``config.json``."""
    config = json.loads((run / "config.json").read_text())
    change(run, **{part: config[part] | values})


def noise(side: int) -> Image.Image:
    """A sheet of four pictures that compress worse than any photograph."""
    random = np.random.default_rng(0)
    grain = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    return grid([Image.fromarray(grain)] * 4, 4, scale=max(1, SHEET_SCALE // side))


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return {*map(tuple, np.asarray(image.convert("RGB")).reshape(-1, 3).tolist())}


@pytest.fixture
def edit(edited: Path) -> FlowOptRun:
    """A finished edit of one's own."""
    return FlowOptRun.open(shutil.copytree(edited, "runs/house-edit"))


def test_a_report_shows_any_text_as_text(done: Path) -> None:
    changed(done, "settings", placeholder=NASTY)
    changed(done, "model", name=f"/home/x/{NASTY.replace('/', '')}")
    change(done, note=f"{NASTY}: use `name`.", began=NASTY)
    page = Page(write_report(LearnRun.open(done)))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert f"a photo of a {NASTY} on the beach" in page.text
    assert f"{NASTY}: use --model." in page.text
    assert any(NASTY in alt for alt in page.all("img", "alt"))


def test_an_edits_report_shows_any_text_as_text(edit: FlowOptRun) -> None:
    change(edit.path, sources=[NASTY], targets=[NASTY], note=NASTY)
    change(edit.path, pictures=[{"name": NASTY, "sha256": ""}])
    page = Page(write_flow_report(FlowOptRun.open(edit.path), {}))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert page.text.count(NASTY) == 4
    assert any(NASTY in alt for alt in page.all("img", "alt"))


def test_a_report_says_what_each_picture_shows_and_links_to_it(done: Path) -> None:
    page = Page(done / "report.html")
    alts = page.all("img", "alt")
    assert "4 pictures of “a photo of a <disc> on the beach”, drawn with the learned word" in alts
    assert "4 pictures of “a photo of a <disc>”, drawn with the word at the start" in alts
    assert "image 2 of 4 that the word was learned from" in alts
    assert "4 pictures of “a photo of a <disc>” after generation 0" in alts
    assert page.text.count("start") > 9 and page.text.count("learned") > 9
    links = page.all("a", "href")
    assert {"samples/00-after.png", "inputs/03.png", "previews/0000.png", "curves.csv"} <= {*links}
    assert all((done / link).is_file() for link in links)


def test_an_edits_report_says_what_each_picture_shows_and_links_to_it(edit: FlowOptRun) -> None:
    page = Page(edit.path / "report.html")
    assert page.all("img", "alt") == [
        "house.png as it was given",
        "white where house.png may change",
        *(f"house.png edited to “a dog”, iterate {number}" for number in range(3)),
    ]
    links = page.all("a", "href")
    assert {"originals/00.png", "masks/00.png", "iterates/00-002.png", "curves.csv"} <= {*links}
    assert all((edit.path / link).is_file() for link in links)
    assert re.search(r"Made on \d{4}-\d\d-\d\d with evoken .*, torch .* and diffusers", page.text)


def test_a_report_says_when_and_with_what_the_word_was_learned(done: Path) -> None:
    change(done, began="2026-05-31T12:00:00+00:00")
    changed(done, "versions", torch="2.13.0", diffusers="0.40.0", evoken="0.1.0")
    said = "on 2026-05-31 with evoken 0.1.0, torch 2.13.0 and diffusers 0.40.0"
    run = LearnRun.open(done)
    write_card(run)
    assert f"Learned {said}." in Page(write_report(run)).text
    assert said in (done / "README.md").read_text()


def test_a_report_of_an_older_run_says_less(done: Path) -> None:
    config = json.loads((done / "config.json").read_text())
    del config["began"], config["versions"]
    (done / "config.json").write_text(json.dumps(config))
    write_card(LearnRun.open(done))
    assert "Learned on" not in Page(write_report(LearnRun.open(done))).text
    assert "(preset default, seed 0)" in (done / "README.md").read_text()


def test_nothing_that_is_shown_has_a_path(done: Path, edit: FlowOptRun) -> None:
    """The models' folders are given as absolute paths, and the runs are in temporary folders."""
    for run in (done, edit.path):
        assert LearnRun(run, json.loads((run / "config.json").read_text())).spec.name[0] == "/"
        for file in ("report.html", "README.md", "curves.csv"):
            if (run / file).exists():
                text = re.sub(r"base64,[^\"]*", "", (run / file).read_text())
                for where in (Path.cwd(), Path.home(), Path("/tmp"), "runs/"):
                    assert str(where) not in text, f"{where} in {file}"
    shown = without_paths({"start": "/home/x/runs/cat", "more": ["~/dog", "bird"], "calls": 1})
    assert shown == {"start": "cat", "more": "dog, bird", "calls": "1"}
    here = {".": Path.cwd(), "..": Path.cwd().parent, "a": Path("a"), "owner/name": None}
    for name, place in here.items():
        its = ModelSpec(name).name
        assert its == str(place or name) and public_name(its) == (place.name if place else name)


def test_a_report_of_large_pictures_is_small(done: Path) -> None:
    """Pictures of 1,024 px: 18 sheets, 10 previews and 5 images stay below 5 MB together."""
    drawn = noise(1024)
    drawn.save("sheet.png", compress_level=0)
    assert Path("sheet.png").stat().st_size > 10e6
    for file in (*done.glob("samples/00-*"), *done.glob("previews/*.png")):
        shutil.copy("sheet.png", file)
    for file in done.glob("inputs/*.png"):
        drawn.crop((0, 0, 1024, 1024)).save(file, compress_level=0)
    page = Page(write_report(LearnRun.open(done)))
    assert not page.all("img", "class")  # smooth
    inputs, sheets = page.all("img", "src")[:4], page.all("img", "src")[4:6]
    assert 5 * len(inputs[0]) + 28 * len(sheets[0]) < 5e6
    for source in (*inputs, *sheets):
        kind, _, data = source.partition(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert kind == "data:image/webp" and image.width == MOST_WIDE


@pytest.mark.parametrize(("side", "wide"), [(16, 259), (64, 259), (96, 390), (128, 512)])
def test_the_pixels_of_small_pictures_stay_as_they_are(side: int, wide: int) -> None:
    drawn = noise(side)
    drawn.save("sheet.png")
    found = picture(Path("sheet.png"), "", Path(), side)
    assert found.width == wide and found.small == (side < 128) and found.link == "sheet.png"
    with Image.open(io.BytesIO(base64.b64decode(found.source.partition(",")[2]))) as image:
        assert image.size == (found.width, found.height)
        if found.small:  # nothing is mixed: the pixels are those of the pictures
            assert colours(image) == colours(drawn)
    assert picture(Path("sheet.png"), "", Path("elsewhere"), side).link == ""


def test_letters_of_charts_are_not_scaled_with_them(done: Path) -> None:
    report = (done / "report.html").read_text()
    for svg in re.findall(r"<svg.*?</svg>", report, re.DOTALL):
        assert "<text" not in svg and 'preserveAspectRatio="none"' in svg
    labels = Page(done / "report.html").all("svg", "aria-label")
    assert [label.partition(" over ")[0] for label in labels] == [
        "validation loss",
        "concept score of the previews",
    ]


def test_a_chart_scales_its_curves_together() -> None:
    found = chart("loss", [Curve("a", [0, 10], [1, 2], 1), Curve("b", [0, 20], [3, 1])], 2, "half")
    assert [line.points for line in found.lines] == [
        ("0.0,1000.0", "500.0,500.0"),
        ("0.0,0.0", "1000.0,1000.0"),
    ]
    assert found.lines[0].mark == "500.0,500.0" and found.level == 500
    assert (found.low, found.high, found.calls) == ("1", "3", "20")
    assert found.alt == "loss over 20 calls: a from 1 to 2, b from 3 to 1"


@pytest.mark.parametrize("value", [0.0, -2.0, 7.5])
def test_a_flat_curve_is_in_the_middle(value: float) -> None:
    flat = chart("loss", [Curve("a", [5], [value])])
    assert flat.lines[0].points == ("1000.0,500.0",) == flat.lines[0].dots


def test_the_curves_are_a_table_too(done: Path, edit: FlowOptRun) -> None:
    run = LearnRun.open(done)
    with (done / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    records, scores = run.records(), run.scores()
    assert [int(row["calls"]) for row in rows] == [r.calls for r in records]
    assert [float(row["validation_loss"]) for row in rows] == [r.validation for r in records]
    assert ",".join(rows[0]) == "generation,calls,seconds,loss,validation_loss,sigma,score"
    assert rows[0]["loss"] == "" and float(rows[1]["loss"]) == min(
        x for x in records[1].losses if x is not None
    )
    assert float(rows[0]["score"]) == scores[0].value and rows[1]["score"] == ""
    with (edit.path / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iterate"] for row in rows] == ["0", "1", "2"]
    assert [float(row["rmse"]) for row in rows] == [r["rmse"][0] for r in edit.records()]


@pytest.mark.parametrize(
    ("base", "tools"),
    [(SD1, ["a1111", "forge", "comfyui", "invokeai"]), (FLUX, ["forge", "comfyui"]), (None, [])],
)
def test_a_report_names_no_program_that_has_no_such_model(
    done: Path, base: Base | None, tools: list[str]
) -> None:
    widths = dict(base.widths) if base else {"clip_l": 64}
    about = {"architecture": base.architecture} if base else {}
    word = Word("<disc>", torch.randn(1, sum(widths.values())), widths)
    save_word(done / "learned_embeds.safetensors", word, about)
    text = Page(write_report(LearnRun.open(done))).text
    assert re.findall(r"evoken convert disc --to (\w+)", text) == tools
    assert ("another program" in text) == bool(tools)


@pytest.mark.parametrize("name", ["runs/disc", ".", "runs/../runs/disc"])
def test_the_reports_command_works_where_the_run_folder_is(
    done: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == ".":
        monkeypatch.chdir(done)
    text = Page(write_report(LearnRun.open(name))).text
    assert 'evoken generate "a photo of a <disc> on the beach" --word disc\n' in text


@pytest.mark.parametrize(
    "name",
    [
        "some/model",
        "some/model@main",
        'some/"quotes": {[',
        "some/a\n---\nb",
        "stickers",
        "/a/'b: c#",
    ],
)
@pytest.mark.parametrize("word", ["<otter>", "<a: [b]\n---\n>", "{{ 7 * 7 }}", "- '\"", "\x07&*!|"])
def test_a_card_is_yaml_whatever_it_is_about(done: Path, word: str, name: str) -> None:
    changed(done, "settings", placeholder=word)
    changed(done, "model", name=name)
    write_card(LearnRun.open(done))
    card = ModelCard.load(done / "README.md")
    data = card.data.to_dict()
    assert data["instance_prompt"] == word
    assert data["tags"] == ["text-to-image", "textual-inversion", "diffusers"]
    is_hub = name.startswith("some/")
    assert data.get("base_model") == (name.removesuffix("@main") if is_hub else None)
    assert data["widget"][0]["text"] == f"a photo of a {word}"
    assert (done / data["widget"][0]["output"]["url"]).is_file()
    assert "/a/" not in card.text and "49" not in card.text
    assert len(re.findall("^# ", card.text, re.MULTILINE)) == 1


def test_a_card_without_pictures_has_no_gallery(done: Path) -> None:
    shutil.rmtree(done / "samples")
    write_card(LearnRun.open(done))
    assert "widget" not in ModelCard.load(done / "README.md").data.to_dict()
