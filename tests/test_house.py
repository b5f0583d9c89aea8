"""The house rules: layering, an instant ``--help``, no word of global randomness or pickles."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "evoken"

# A module imports only from those above it.
LAYERS = (
    ("evoken.errors", "evoken.arrays", "evoken.models.runtimes.quiet"),
    ("evoken.seeds", "evoken.files", "evoken.page", "evoken.checks"),
    ("evoken.images", "evoken.prompts", "evoken.process", "evoken.judge", "evoken.models.memory"),
    ("evoken.models.base", "evoken.models.batches"),
    ("evoken.models.runtimes.entry",),
    (
        "evoken.models.runtimes.requirements",
        "evoken.models.runtimes.int8",
        "evoken.models.runtimes.onnx_runtime",
        "evoken.models.runtimes.openvino_runtime",
    ),
    ("evoken.models.clip", "evoken.models.text"),
    ("evoken.models.encoders", "evoken.models.runtimes.choose"),
    ("evoken.models.latent",),
    ("evoken.models.diffusion", "evoken.models.flow"),
    (
        "evoken.models.stable_diffusion",
        "evoken.models.sdxl",
        "evoken.models.stable_diffusion_3",
        "evoken.models.flux",
        "evoken.models.single_file",
    ),
    ("evoken.models.loading",),
    ("evoken.models.embedded",),
    ("evoken.models.notices", "evoken.models.provenance"),
    ("evoken.flowopt.sampler",),
    ("evoken.flowopt.rules", "evoken.flowopt.pipeline"),
    ("evoken.flowopt.inversion", "evoken.flowopt.optimize", "evoken.flowopt.step_size"),
    ("evoken.textual_inversion.formats", "evoken.textual_inversion.reading"),
    ("evoken.textual_inversion.embedding_files", "evoken.textual_inversion.header"),
    (
        "evoken.textual_inversion.convert",
        "evoken.textual_inversion.chunks",
        "evoken.textual_inversion.initialization",
        "evoken.textual_inversion.subspace",
        "evoken.textual_inversion.embedding",
    ),
    ("evoken.textual_inversion.objective",),
    ("evoken.search.base", "evoken.textual_inversion.settings"),
    (
        "evoken.search.cma",
        "evoken.search.zero_order",
        "evoken.search.gauss_newton",
        "evoken.search.random_search",
    ),
    ("evoken.textual_inversion.recipe",),
    ("evoken.workers",),
    ("evoken.distributed", "evoken.textual_inversion.learn"),
    ("evoken.metrics", "evoken.run", "evoken.flowopt.settings", "evoken.flowopt.compare"),
    ("evoken.flowopt.edit", "evoken.retrieval"),
    ("evoken.flowopt.folder", "evoken.flowopt.tasks"),
    ("evoken.report", "evoken.flowopt.report"),
    ("evoken.flowopt.workflow",),
    ("evoken.workflow",),
    ("evoken.forecast",),
    ("evoken.terminal",),
    ("evoken.cli_common",),
    ("evoken.cli_files", "evoken.cli_flow"),
    ("evoken.cli",),
)
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("evoken", *path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] not in ("__init__", "__main__"):
            found[".".join(parts)] = path
    return found


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_every_module_has_its_place() -> None:
    assert set(modules()) == set(RANK)


@pytest.mark.parametrize("module", sorted(RANK))
def test_a_module_imports_only_from_those_above_it(module: str) -> None:
    for name in imports(modules()[module]):
        if name in RANK:
            assert RANK[name] < RANK[module], f"{module} imports {name}"
        assert not name.startswith("stickers"), f"{module} needs the training code"


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from evoken.cli import app; "
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
