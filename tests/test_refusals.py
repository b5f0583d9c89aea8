"""A refused command writes nothing: bad numbers and paths for every option of every command."""

import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from PIL import Image

from evoken.cli.app import app
from tests.commands import SMALL, evoken
from tests.conftest import make_photos

MODEL, CLIP = "tiny/model", "tiny/clip"
FLOW = {"name": "tiny/flow", "steps": 3, "iterations": 1}
# By command, the parameters of a call that would succeed.
CALLS: dict[str, dict[str, Any]] = {
    "learn": {
        **{"images": "disc", "name": MODEL, "clip": CLIP, "output": "runs/new"},
        **{"samples": 0, "preview_every": 0},
    },
    "finish": {"path": "runs/disc"},
    "generate": {"prompt": "a cat", "name": MODEL, "steps": 2, "count": 1},
    "evaluate": {"path": "runs/disc", "count": 2},
    "invert": {"pictures": "disc/0.png", **FLOW},
    "edit": {
        "pictures": "disc/0.png",
        **{"source": "a cat", "target": "a dog", "clip": CLIP},
        **FLOW,
    },
    "pick": {"path": "runs/edit", "number": 0},
    "runs": {"folder": "runs"},
    "compare": {"paths": ["runs/disc", "runs/other"]},
    "convert": {"path": "runs/disc", "tool": "a1111"},
    "merge": {"words": ["runs/disc", "runs/other"], "output": "both.safetensors"},
    "inspect": {"path": "runs/disc", "name": MODEL},
    "retrieve": {"path": "runs/disc", "folder": "disc"},
    "web": {"runs": "runs", "port": 0},
    "flowopt step-size": {"pictures": "disc/0.png", "name": "tiny/flow", "iterations": 1},
}
NUMBERS = ("-1", "0", "1e-320", "nan", "inf", "1e308", str(10**9), str(2**63), "9" * 5000)
# Numbers that are good all the same; what is beyond 2^63 is too much for all but these seeds.
GOOD = {
    "0": {
        *("temperature", "axes", "minutes", "patience", "preview_every", "samples", "batch"),
        *(
            "size",
            "t_low",
            "seed",
            "fidelity",
            "sigma",
            "iterations",
            "last",
            "fresh",
            "number",
            "guidance",
            "port",
        ),
    },
    "1e-320": {"minutes", "t_low", "fresh", "guidance", "tolerance", "eta"},
    str(10**9): {"calls", "patience", "preview_every", "seed", "top"},
    str(2**63): {"seed", "top"},
}
# Huge, but not beyond what a setting may be: it is the memory that does not suffice.
BEYOND_MEMORY = {"popsize": 10_000, "chunk": 100_000, "draws": 100_000, "calls": 10**9}
LONG = "n" * 256
NOT_THERE = ("missing", "file/below", LONG, f"disc/{LONG}", "/proc/nonexistent", "p/" * 2500)
NOT_TO_WRITE = ("file/below", LONG, f"new/{LONG}", f"{LONG}/new", "/proc/nonexistent/new")
# What a path stands for: what is there in its place is refused too.
READ, WRITTEN = (
    {
        "images": ("empty", "file"),
        "path": ("empty", "file", "disc"),
        "paths": ("empty", "file", "disc"),
        "pictures": ("empty", "file"),
        "mask": ("empty", "file", "disc"),
        "folder": ("file",),
        "resume": ("empty", "file", "disc"),
        "config_file": ("disc", "broken.yaml"),
        "words": ("empty", "file", "disc"),
        "word": ("empty", "file", "disc"),
        "name": ("empty", "file", "disc"),
        "also": ("empty", "file", "disc"),
        "scorer": ("empty", "file", "disc"),
        "models": ("file",),
    },
    {"output": ("file",), "runs": ("file",)},
)
# What is neither a number nor a path that is looked at in every call.
OTHERS = {
    *(
        "placeholder",
        "kind",
        "effort",
        "initialization",
        "start",
        "subspace",
        "objective",
        "search",
    ),
    *("weighting", "preview_prompts", "masks", "captions", "mistakes", "preset", "precision"),
    *("device", "encoders", "config", "runtime", "clip", "ray", "as_json", "prompt", "negative"),
    *("source", "target", "rule", "concept", "tool", "force", "dry_run", "host", "token"),
    *(
        "no_browser",
        "effort",
        "strengths",
        "everywhere",
        "frame",
        "thorough",
        "saved_info",
        "offload",
    ),
}

pytestmark = pytest.mark.usefixtures("own_folder", "things", "hub", "no_server")


def commands(group: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of the program by its whole name."""
    group = group or typer.main.get_command(app)
    for part, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name}{part} ")
        else:
            yield name + part, command


COMMANDS = dict(commands())


def kinds(command: str) -> dict[str, type]:
    """The type of each parameter of a command, of its elements if it is a list."""
    found = {}
    for name, parameter in inspect.signature(COMMANDS[command].callback).parameters.items():
        kind = parameter.annotation
        while get_args(kind):  # Annotated, lists, and what may be None
            kind = get_args(kind)[0]
        found[name] = kind
    return found


def line(command: str, given: dict[str, Any]) -> list[str]:
    """A call as it is typed."""
    before, behind = [], []
    for parameter in COMMANDS[command].params:
        values = given.get(parameter.name)
        values = values if isinstance(values, list) else [] if values is None else [values]
        if parameter.param_type_name == "argument":
            behind += map(str, values)
        else:
            before += [text for value in values for text in (parameter.opts[0], str(value))]
    small = SMALL if command == "learn" and not given.get("resume") else ()
    return [*command.split(), *small, *before, "--", *behind]


def refused_and_untouched(command: str, given: dict[str, Any], said: str = "") -> None:
    """One short sentence, exit code 2, and everything as it was."""
    before = tree()
    result = evoken(*line(command, given))
    assert result.exit_code == 2, (given, result.output, result.exception)
    assert re.fullmatch(r"error: [^`\n]{,590}\n", result.stderr), result.stderr
    assert said in result.stderr
    assert tree() == before, given


def tree() -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() if path.is_file() else b""
        for path in Path().glob("[!t]*/**/*")
    } | {path.name: b"" for path in Path().iterdir()}


@pytest.fixture(scope="module")
def edit_run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edit")
    picture = folder / "house.png"
    Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 30).convert("RGB").save(picture)
    model = ("--model", tiny_folder / "flow", "--clip", tiny_folder / "clip")
    asked = ("--from", "a cat", "--to", "a dog", "--steps", 3, "--iterations", 1)
    result = evoken("edit", picture, *asked, *model, "--output", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture
def things(own_folder: None, finished: Path, edit_run: Path, tiny_folder: Path) -> None:
    """What the calls name, and what is in the way of others."""
    Path("tiny").symlink_to(tiny_folder)
    make_photos(Path("disc"))
    for name, run in (("disc", finished), ("other", finished), ("edit", edit_run)):
        shutil.copytree(run, Path("runs", name))
    Path("empty").mkdir()
    Path("file").write_text("in the way")
    Path("broken.yaml").write_text("[")


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is made ready, and ends before it is served."""
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
    monkeypatch.setattr("webbrowser.open", lambda address: True)


def test_every_parameter_has_its_row() -> None:
    assert set(CALLS) == set(COMMANDS)
    for command in COMMANDS:
        for name, kind in kinds(command).items():
            is_known = kind in (int, float) or name in {*READ, *WRITTEN, *OTHERS, "context"}
            assert is_known, f"{name} of {command}: a number, a path, or one of OTHERS"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_calls_are_good_but_for_what_is_changed_in_them(command: str) -> None:
    result = evoken(*line(command, CALLS[command]))
    assert result.exit_code == 0, (result.output, result.exception)


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_numbers(command: str) -> None:
    for name, kind in kinds(command).items():
        if kind not in (int, float):
            continue
        for value in NUMBERS:
            if name not in GOOD.get(value, ()):
                refused_and_untouched(command, CALLS[command] | {name: value})


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_paths(command: str) -> None:
    for name in kinds(command):
        for paths, others in ((NOT_THERE, READ), (NOT_TO_WRITE, WRITTEN)):
            if name in others:
                for path in (*paths, *others[name]):
                    given = {name: [path, "runs/other"] if name == "paths" else path}
                    others_too = {} if name == "resume" else CALLS[command]
                    refused_and_untouched(command, others_too | given)


def test_what_memory_does_not_hold() -> None:
    refused_and_untouched("learn", CALLS["learn"] | BEYOND_MEMORY, "GB of memory")
