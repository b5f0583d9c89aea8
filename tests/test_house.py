"""The house rules: layering, an instant ``--help``, no word of global randomness or pickles."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "evoken"

# A module imports from its own folder and from the rows above it.
LAYERS = (
    ("errors", "arrays", "seeds", "version", "page", "cache", "prompts", "quiet", "progress"),
    ("files", "images", "options", "process"),
    ("spec",),
    ("models", "evaluation"),
    ("words", "search", "drawing", "run_folder"),
    ("metrics",),
    ("textual_inversion", "flowopt"),
    ("cli",),
    ("evoken",),  # the package's face
)
ROW = {place: row for row, places in enumerate(LAYERS) for place in places}


def modules() -> dict[str, Path]:
    """Every module of the package; a folder's ``__init__`` goes by the folder's name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("evoken", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


def place(module: str) -> str:
    """The folder of a module, or the module itself if it is in none."""
    return module.split(".")[1] if "." in module else module


def imports(path: Path) -> set[str]:
    """All that a module imports, within functions and for types too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def arrows() -> dict[str, set[str]]:
    """By module: the modules of the package that it imports."""
    found = modules()
    return {module: imports(path) & set(found) for module, path in found.items()}


def test_every_module_belongs_to_a_layer() -> None:
    assert {place(module) for module in modules()} == set(ROW)


@pytest.mark.parametrize("module", sorted(modules()))
def test_no_arrow_runs_back_up(module: str) -> None:
    here = place(module)
    for name in arrows()[module]:
        assert place(name) == here or ROW[place(name)] < ROW[here], f"{module} imports {name}"
    assert not any(n.startswith("stickers") for n in imports(modules()[module]))


def test_no_module_imports_itself_in_a_circle() -> None:
    list(TopologicalSorter(arrows()).static_order())  # raises CycleError


def test_neither_of_the_two_methods_imports_the_other() -> None:
    methods = {"textual_inversion", "flowopt"}
    for module, names in arrows().items():
        if place(module) in methods:
            assert not {place(n) for n in names} & methods - {place(module)}, module


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from evoken.cli.app import app; "
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0; "
        "assert 'learn' in result.output; "
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_global_randomness_no_pickle_no_long_file(path: Path) -> None:
    text = path.read_text()
    for banned in ("torch.manual_seed", "np.random.seed", "random.seed", "pickle"):
        assert banned not in text.replace("only there as pickles", "").replace(
            "nothing is ever unpickled", ""
        ), f"{banned} in {path}"
    loads = re.findall(r"torch\.load\(.*", text)
    assert all(call.count("weights_only=True") == 1 for call in loads), f"torch.load in {path}"
    assert text.count("\n") <= 500
