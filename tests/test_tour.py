"""The notebook in docs/: its cells run in order, with small budgets."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from evoken.pictures.drawing import Pictures
from tests.test_documents import links

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "docs" / "tour.ipynb"


def cells(kind: str) -> list[str]:
    found = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def shown(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell, and give what a notebook would show: the value of its last line."""
    *lines, last = ast.parse(cell).body
    exec(compile(ast.Module(lines, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    exec(compile(ast.Module([last], []), "cell", "exec"), names)
    return None


def test_all_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    budgets, *rest = cells("code")
    names: dict[str, Any] = {}
    exec(budgets, names)
    assert names["CALLS"] >= 6000
    names |= {"CALLS": 700, "STEPS": 4}
    short = [
        cell.replace("calls=CALLS", 'calls=CALLS, preview_prompts=("a {}",), samples=1')
        for cell in rest
    ]
    assert short != rest
    results = [shown(cell, names) for cell in short]
    assert sum(isinstance(result, Pictures) for result in results) == 6
    assert not torch.equal(names["without"].images, names["learned"].images)
    assert names["curve"]._repr_svg_().startswith("<svg xmlns=")
    assert len(names["records"]) == 2 and names["records"][-1].calls <= 700
    assert names["picked"][0].exists() and names["converted"].path.exists()
    for run in ("tour-otter", "tour-crown"):
        assert (tmp_path / "runs" / run / "report.html").exists()


def test_links_lead_somewhere_and_no_outputs_are_stored() -> None:
    for text in cells("markdown"):
        for link in links(text):
            assert (TOUR.parent / link).exists(), link
    for cell in json.loads(TOUR.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count")
