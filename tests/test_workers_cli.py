"""--workers and --ray: the same word bit for bit, and clear words where they cannot be had."""

import os
import signal
import sys
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Record
from tests.commands import evoken, refused
from tests.conftest import make_photos

SMALL = (
    "--popsize",
    "5",
    "--draws",
    "4",
    "--validation-draws",
    "20",
    "--preview-every",
    "0",
    "--samples",
    "0",
    "--calls",
    "130",
)


pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="module")
def given(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """``evoken learn`` and what it needs."""
    photos = make_photos(tmp_path_factory.mktemp("photos") / "disc")
    model = ("--model", tiny_folder / "model", "--clip", tiny_folder / "clip")
    return ("learn", photos, *model, *SMALL)


@pytest.fixture(scope="module")
def serial(given: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without workers."""
    folder = tmp_path_factory.mktemp("serial") / "run"
    assert evoken(*given, "--output", folder).exit_code == 0
    return folder


def learned(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    records = [r.to_dict() | {"seconds": 0} for r in LearnRun.open(folder).records()]
    return (folder / "learned_embeds.safetensors").read_bytes(), records


@pytest.mark.parametrize("more", [("--workers", 2), ("--ray", "local", "--workers", 2)])
def test_workers_learn_the_serial_word_and_it_goes_on_without_them(
    given: tuple[object, ...],
    serial: Path,
    more: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spread, append = Path("spread"), LearnRun.append
    handlers = {signal.getsignal(signal.SIGTERM)}  # Ray would end the process with a stack

    def looking(self: LearnRun, record: Record) -> None:
        append(self, record)
        handlers.add(signal.getsignal(signal.SIGTERM))

    monkeypatch.setattr(LearnRun, "append", looking)
    result = evoken(*given, "--output", spread, *more)
    assert result.exit_code == 0, result.output
    assert len(handlers) == 1
    assert learned(spread) == learned(serial)
    configs = [LearnRun.open(run).config | {"began": ""} for run in (spread, serial)]
    assert configs[0] == configs[1]
    assert not active_children()
    records = spread / "records.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:2]))
    assert evoken("learn", "--resume", spread).exit_code == 0
    assert learned(spread) == learned(serial)


def test_ctrl_c_ends_the_workers_and_loses_nothing(
    given: tuple[object, ...], serial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = LearnRun.append

    def interrupting(self: LearnRun, record: Record) -> None:
        append(self, record)
        if record.generation == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(LearnRun, "append", interrupting)
    result = evoken(*given, "--output", "cut", "--workers", 1)
    assert result.exit_code == 130 and "evoken learn --resume cut" in result.stderr
    assert not active_children()
    monkeypatch.setattr(LearnRun, "append", append)
    assert evoken("learn", "--resume", "cut").exit_code == 0
    assert learned(Path("cut")) == learned(serial)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workers", 0), ("--workers must be from 1 to 10,000 (got 0).")),
        (("--workers", -2), ("--workers must be from 1 to 10,000 (got -2).")),
        (("--ray", "local", "--workers", 0), ("--workers must be from 1 to 10,000 (got 0).",)),
        (("--ray", "localhost:1"), ("'localhost:1'", "--ray")),
        (("--ray", "nowhere"), ("'nowhere'", "--ray")),
        (("--ray", "auto"), ("'auto'", "ray start")),
        (("--device", "cuda", "--workers", 2), ("'cuda'", "--device")),
        (("--device", "abacus"), ("'abacus'", "--device")),
        (("--chunk", 0), ("--chunk must be from 1 to 100,000 (got 0).",)),
    ],
)
def test_workers_that_cannot_be_had_are_one_clear_sentence(
    given: tuple[object, ...], arguments: tuple[object, ...], words: tuple[str, ...]
) -> None:
    result = evoken(*given, *arguments)
    refused(result, *words)
    assert not Path("runs").exists()
    assert not active_children()


def test_ray_that_is_not_installed(
    given: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = evoken(*given, "--ray", "local")
    assert result.exit_code == 2 and "pip install 'evoken[ray]'" in result.stderr
    assert not Path("runs").exists()
