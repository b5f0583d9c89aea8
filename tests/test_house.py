"""The house rules: layering, an instant ``--help``, no word of global randomness or pickles."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from evoken.errors import EvokenError

PACKAGE = Path(__file__).parent.parent / "evoken"

# A module imports from its own folder and from the rows above it.
LAYERS = (
    ("errors", "arrays", "seeds", "version", "cache", "prompts", "quiet", "telemetry"),
    (
        "bugs",
        "progress",
        "dialects",
        "documents",
        "files",
        "decoding",
        "libraries",
        "options",
        "process",
        "runtimes",
    ),
    ("annotations", "spec", "page", "records"),
    ("images",),
    ("models",),
    ("evaluation",),
    ("words", "search", "run_folder"),
    ("pictures",),
    ("textual_inversion", "flowopt"),
    ("summaries", "resuming"),
    ("web",),
    ("cli",),
    ("evoken", "__main__"),  # the package's face, and the command by another name
)
ROW = {place: row for row, places in enumerate(LAYERS) for place in places}


@cache
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


@cache
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


def test_what_watches_a_job_of_the_page_imports_no_torch() -> None:
    code = "import sys, evoken.web.supervisor; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", sorted(modules()))
def test_diffusers_and_transformers_come_through_one_door(module: str) -> None:
    outside = {name.partition(".")[0] for name in imports(modules()[module])}
    if module not in ("evoken.libraries", "evoken.quiet"):
        assert not outside & {"diffusers", "transformers"}


def texts(tree: ast.AST) -> list[str]:
    """Every literal text, docstrings too, with {} in place of values."""
    parts = {v for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for v in node.values}
    return [
        literal(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant) and node not in parts
    ]


def literal(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(value) for value in node.values)
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_text else "{}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_the_library_knows_no_options_of_the_command_line(path: Path) -> None:
    """Its messages name settings in backticks; a whole command, to type it, may have options."""
    if path.parent.name == "cli" or path.stem == "page":  # a style sheet has names like --line
        return
    for text in texts(ast.parse(path.read_text())):
        rest = re.sub(r"(^|: )(evoken|ray) .*", "", text)
        assert not re.search(r" --[a-z]", rest), text


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_errors_are_a_problem_and_a_fix(path: Path) -> None:
    """The problem ends with a full stop, the fix with one or with a command to type."""
    kinds = {"EvokenError", *(kind.__name__ for kind in EvokenError.__subclasses__())}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in kinds:
            assert len(node.args) in (1, 2) and not node.keywords, ast.unparse(node)
            said = [
                literal(a) if isinstance(a, ast.JoinedStr | ast.Constant) else "" for a in node.args
            ]
            problem, fix = (*said, "")[:2]
            assert re.fullmatch(r"[^A-Z].*[^.]\.|", problem), problem
            command = r": (evoken|git|hf|pip|ray) [^.]*"
            assert re.fullmatch(rf"[A-Z].*([^.]\.|{command})|\{{\}}.*|", fix), fix


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
