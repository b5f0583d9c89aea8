import gc
import os
import shutil
import signal
from collections.abc import Callable
from functools import cache

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# What a test forgets to forbid would wait for the network, for a minute where there is none.
os.environ["HF_HUB_OFFLINE"] = "1"
# Idle threads of OpenBLAS keep a core busy: with the two processes of `make test` side by side,
# numpy's linear algebra took fifty times as long. Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What a shell starts with & ignores Ctrl-C, and so does all that it starts: half of `make test`.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from pathlib import Path
from types import FunctionType

import pytest
import torch
import typer.testing
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from hypothesis import settings
from PIL import Image
from typer.main import get_command
from typer.testing import Result

from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.pipelines import load_pipeline
from evoken.spec import ModelSpec
from stickers.glyphs import FONT
from tests import tiny, tiny_language
from tests.browser import AXE, BROWSER
from tests.commands import QUICK, SMALL, evoken

torch.set_num_threads(1)
# Typer's runner builds the whole program for every command, which takes longer than to refuse one.
typer.testing._get_command = cache(get_command)  # type: ignore[attr-defined]
# How long an example takes says more about the machine than about the example.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """What is imported stays: collections of garbage, which evoken asks for when memory is short,
    need not search it every time.
    """
    gc.collect()
    gc.freeze()


# Only a machine without Debian's packages goes without the tests that draw stickers; CI never does.
collect_ignore = (
    []
    if FONT.exists() or "CI" in os.environ
    else [
        *("test_stickers.py", "test_embedded.py"),
        *("test_bench_small.py", "test_editing_benchmark.py"),
    ]
)
# The same goes for Chromium and axe-core.
if not (BROWSER and AXE.exists()) and "CI" not in os.environ:
    collect_ignore.append("test_web_browser.py")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pipeline of each family on disk, and a CLIP: ``model``, ``clip`` and others."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny.save(folder)
    tiny_language.save(folder)
    return folder


@pytest.fixture(scope="session")
def model(tiny_folder: Path) -> StableDiffusion:
    return load_pipeline(str(tiny_folder / "model"), ModelSpec("tiny"))


@pytest.fixture(scope="session")
def clip(tiny_folder: Path) -> Clip:
    return Clip.load(str(tiny_folder / "clip"))


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Four images of one thing: a bright disc on changing grounds, 16 px."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    disc = ((x - 8) ** 2 + (y - 8) ** 2 < 20).float()
    grounds = torch.linspace(-1, 0.5, 4)[:, None, None, None]
    return disc * torch.tensor([1.0, 0.2, -0.5])[:, None, None] + (1 - disc) * grounds


@pytest.fixture
def narrow_flux(monkeypatch: pytest.MonkeyPatch) -> None:
    """What diffusers reads files of FLUX.1 with is for the real width alone, which stands in it as
    a number: here it is the small models'.
    """
    reader = SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    mapping = reader["checkpoint_mapping_fn"]
    numbers = tuple(32 if number == 3072 else number for number in mapping.__code__.co_consts)
    narrow = FunctionType(mapping.__code__.replace(co_consts=numbers), mapping.__globals__)
    monkeypatch.setitem(reader, "checkpoint_mapping_fn", narrow)


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test works in a folder of its own, as a user in a terminal does."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Nothing can be fetched from the hub; what its client keeps of a repository may be put into
    the folder that this gives for the repository's name.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def folder(name: str) -> Path:
        kept, commit = tmp_path / "hub" / f"models--{name.replace('/', '--')}", "0" * 40
        (kept / "refs").mkdir(parents=True)
        (kept / "refs" / "main").write_text(commit)
        return kept / "snapshots" / commit

    return folder


def make_photos(folder: Path) -> Path:
    """A folder of four small pictures: a square on four grounds."""
    folder.mkdir()
    for i, colour in enumerate(("red", "green", "blue", "white")):
        picture = Image.new("RGB", (40, 30), colour)
        picture.paste("magenta", (14, 8, 24, 18))
        picture.save(folder / f"{i}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "disc")


@pytest.fixture
def learn(tiny_folder: Path, photos: Path) -> Callable[..., Result]:
    """``evoken learn`` on the small model, without pictures; arguments are appended."""

    def run(*arguments: object, images: Path | None = photos) -> Result:
        model = ("--model", tiny_folder / "model", "--clip", tiny_folder / "clip", *QUICK)
        where = () if images is None else (images,)
        return evoken("learn", *where, *model, *arguments)

    return run


@pytest.fixture(scope="session")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made once."""
    folder = tmp_path_factory.mktemp("finished")
    make_photos(folder / "disc")
    result = evoken(
        "learn",
        folder / "disc",
        "--model",
        tiny_folder / "model",
        "--clip",
        tiny_folder / "clip",
        *SMALL,
        "--output",
        folder / "run",
    )
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture(scope="session")
def edited(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished edit, made once."""
    folder = tmp_path_factory.mktemp("edited")
    Image.new("RGB", (40, 30), "red").save(folder / "house.png")
    model = ("--model", tiny_folder / "flow", "--clip", tiny_folder / "clip")
    small = ("--steps", 4, "--last", 3, "--iterations", 2, "--output", folder / "run")
    what = ("--from", "a cat", "--to", "a dog")
    result = evoken("edit", folder / "house.png", *what, *model, *small)
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture
def done(finished: Path) -> Path:
    """A finished run of one's own, at the place where ``learn`` would put it."""
    return Path(shutil.copytree(finished, "runs/disc"))
