"""What README and docs say is what was measured and what the program does."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import evoken
from benchmarks import figures, reference
from benchmarks.documents import documents, fill

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", documents(), ids=lambda p: p.name)
def test_every_quoted_number_was_measured(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert fill(text, figures.read(), path.parent) == text


def test_numbers_are_written_as_asked() -> None:
    known = {"a.share": 0.876, "a.calls": 11936, "a.range": {"median": 2.345, "low": 1}}
    text = "?<!-- a.share % --> % of ?<!-- a.calls 0 -->, ?<!-- a.range --> s"
    filled = "88<!-- a.share % --> % of 11,936<!-- a.calls 0 -->, 2.35<!-- a.range --> s"
    assert fill("?<!-- a.range low -->", known) == "1<!-- a.range low -->"
    assert fill(text, known) == filled
    assert fill(filled, known) == filled
    with pytest.raises(KeyError):
        fill("1<!-- a.nothing -->", known)
    for wrong in ("1<!-- a.range lower -->", "<!-- a.range -->", "1 <!-- a.range 2 -->"):
        with pytest.raises(ValueError, match="no figure is quoted"):
            fill(wrong, known)
    digits = {"low": 0.0123, "median": 1234.5, "high": 2.0}
    text = "?<!-- a low 2 --> ?<!-- a low % --> ?<!-- a 0 --> ?<!-- a high 1 -->"
    assert re.findall(r"(\S+)<!--", fill(text, {"a": digits})) == ["0.01", "1", "1,234", "2.0"]


def test_the_references_of_commands_and_settings_are_up_to_date() -> None:
    for path, text in reference.pages().items():
        assert path.read_text(encoding="utf-8") == text


def links(text: str) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]


@pytest.mark.parametrize("path", [*documents(), ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in links(path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), f"{link} in {path}"


def test_every_decision_named_in_code_is_there() -> None:
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "evoken").rglob("*.py"))
    for name in re.findall(r"docs/decisions/[a-z0-9-]+\.md", code):
        assert (ROOT / name).exists(), name


def test_the_reference_has_every_public_name_once() -> None:
    names = re.findall(r"^::: evoken\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert sorted(names) == sorted(evoken.__all__)


def test_every_page_is_in_the_sites_navigation() -> None:
    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [page for part in inner for page in pages(part)]

    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    there = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert set(pages(nav)) == there


def test_the_table_of_methods_is_made_of_figures() -> None:
    known = {
        "learn.sep-cma.loss": 0.4321,
        "learn.sep-cma.calls": 11936,
        "learn.start.loss": 0.5,
        "learn.calls": 3,
    }
    text = "Before\n<!-- table learn -->\nold\n<!-- end -->\nafter"
    rows = fill(text, known).splitlines()
    assert (rows[0], rows[-1]) == ("Before", "after")
    assert [r.split(" | ")[0] for r in rows[4:6]] == ["| sep-cma", "| start"]
    assert "11,936" in rows[4]
    assert "0.4321" in rows[4]
    assert fill(fill(text, known), known) == fill(text, known)


def test_the_table_of_editors_begins_with_the_best_and_has_intervals() -> None:
    known = {
        "editing.flowedit.clean": 0.25,
        "editing.ours.clean": 0.5,
        "editing.ours.outside": {"median": 8.04, "low": 7.0, "high": 9.0, "n": 156},
        "editing.calls_default": 97.2,
    }
    rows = fill("<!-- table editing -->\n<!-- end -->", known).splitlines()
    assert rows[1] == "| method | RMSE outside | clean edits |"
    assert rows[3] == "| ours | 8.0 (7.0 to 9.0) | 0.50 |"
    assert rows[4] == "| flowedit |  | 0.25 |"
