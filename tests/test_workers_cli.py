"""--workers and --ray: the same word bit for bit, and clear words where they cannot be had."""

import json
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evoken.cli import app
from evoken.run import Run

SMALL = ("--popsize", "5", "--draws", "4", "--validation-draws", "20", "--preview-every", "0")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def given(tiny_folder: Path, photos: Path) -> tuple[object, ...]:
    model = ("--model", tiny_folder / "model", "--clip", tiny_folder / "clip")
    return ("learn", photos, *model, *SMALL)


def evoken(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def learned(folder: str) -> tuple[bytes, list[dict[str, Any]]]:
    lines = Path(folder, "records.jsonl").read_text().splitlines()
    records = [json.loads(line) | {"seconds": 0} for line in lines]
    return Path(folder, "learned_embeds.safetensors").read_bytes(), records


def test_workers_learn_the_serial_word_and_can_go_on_with_it(given: tuple[object, ...]) -> None:
    calls = ("--calls", 160)
    for folder, more in (("serial", ()), ("spread", ("--workers", 2))):
        result = evoken(*given, *calls, "--output", folder, *more)
        assert result.exit_code == 0, result.output
    assert learned("spread") == learned("serial")
    assert Run.open(Path("spread")).config == Run.open(Path("serial")).config
    records = Path("spread/records.jsonl")
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:2]))
    assert evoken("learn", "--resume", "spread").exit_code == 0
    assert learned("spread") == learned("serial")
    assert not active_children()


def test_ray_learns_the_serial_word(given: tuple[object, ...]) -> None:
    calls = ("--calls", 120, "--objective", "denoising")
    for folder, more in (("serial", ()), ("spread", ("--ray", "local", "--workers", 2))):
        result = evoken(*given, *calls, "--output", folder, *more)
        assert result.exit_code == 0, result.output
    assert learned("spread") == learned("serial")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workers", 0), ("workers of at least 1", "0")),
        (("--workers", -2), ("workers of at least 1", "-2")),
        (("--ray", "local", "--workers", 0), ("workers of at least 1",)),
        (("--ray", "localhost:1"), ("'localhost:1'", "--ray")),
        (("--ray", "nowhere"), ("'nowhere'", "--ray")),
        (("--ray", "auto"), ("'auto'", "ray start")),
        (("--device", "cuda", "--workers", 2), ("'cuda'", "--device")),
        (("--device", "abacus"), ("'abacus'", "--device")),
        (("--chunk", 0), ("chunk of at least 1",)),
    ],
)
def test_workers_that_cannot_be_had_are_one_clear_sentence(
    given: tuple[object, ...], arguments: tuple[object, ...], words: tuple[str, ...]
) -> None:
    result = evoken(*given, "--calls", 160, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: expected ")
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words)
    assert not Path("runs").exists()
    assert not active_children()
