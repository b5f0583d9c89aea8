"""Text of others never moves the cursor, reorders a line or pretends to be one of evoken's."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from evoken.cli.terminal import FIX, PROBLEM
from evoken.errors import plain
from evoken.words.word import Word, load_word, save_word
from tests.commands import evoken, files

EVIL = "\x1b[2Jx\x07\r\u202e\x9b\u2028\nerror: all is lost"
RAW = re.compile(r"[^\n\t\x20-\x7e\u00a0-\u2027\u202f-\U0010ffff]|[\u202a-\u202e\u2028\u2029]")

pytestmark = pytest.mark.usefixtures("own_folder", "hub")


def evil(value: Any) -> Any:
    """All texts in what JSON holds with EVIL behind them; names and choices stay what they are."""
    if isinstance(value, dict):
        return {k: v if k in KEPT else evil(v) for k, v in value.items()}
    if isinstance(value, list):
        return [evil(v) for v in value]
    return value + EVIL if isinstance(value, str) else value


# What a folder must have as it is to be opened at all.
KEPT = {
    *("command", "weights", "clip", "device", "precision", "runtime", "encoders", "config", "name"),
    *("kind", "effort", "initialization", "subspace", "objective", "search", "weighting", "preset"),
    *("mistakes", "start", "rule"),
}


@pytest.fixture
def foreign(done: Path, tiny_folder: Path) -> Path:
    """A finished run whose texts somebody has chosen."""
    word = load_word(done)
    for file in ("config.json", "inputs.json"):
        content = json.loads((done / file).read_text())
        changed = evil(content)
        if file == "config.json":
            changed["settings"]["preview_prompts"] = ["a {} " + EVIL]
        else:
            for entry in changed:
                entry["name"] += EVIL
        (done / file).write_text(json.dumps(changed))
    about = {"model": f"{tiny_folder}/{EVIL}", EVIL: EVIL, "merged": EVIL}
    save_word(done / "learned_embeds.safetensors", Word(f"<disc>{EVIL}", word.vectors), about)
    Path("other", "disc" + EVIL).parent.mkdir()
    return Path(shutil.copytree(done, Path("other", "disc" + EVIL)))


def clean(result: Any) -> str:
    """What a command said, if it is plain and no line of it is a forged one."""
    said = result.stdout + result.stderr
    assert not RAW.search(said), repr(said)
    assert not re.search(r"^error: all is lost", said, re.MULTILINE), said
    assert result.exit_code in (0, 2), (said, result.exception)
    return str(said)


def test_no_command_prints_what_a_folder_says_raw(foreign: Path, tiny_folder: Path) -> None:
    tiny = tiny_folder / "model"
    for command, code in (
        (("runs", "."), 0),
        (("inspect", foreign), 0),
        (("inspect", foreign, "--json"), 0),
        (("convert", foreign, "--to", "a1111"), 0),
        (("convert", foreign, "--to", "diffusers"), 0),
        (("merge", foreign, "runs/disc", "--output", "both.safetensors"), 0),
        (("compare", foreign, "runs/disc"), 0),
        (("generate", f"a <disc>{EVIL}", "--word", foreign, "--model", tiny, "--steps", 2), 0),
        (("evaluate", foreign, "--count", 2), 2),
        (("retrieve", foreign, "."), 0),
        (("finish", foreign), 2),
        (("learn", "--resume", foreign), 2),
        (("pick", foreign, 0), 2),
        (("pick", foreign / EVIL), 2),
        (("learn", EVIL), 2),
        (("learn", "--config", EVIL), 2),
        (("learn", "--calls", EVIL), 2),
        ((EVIL,), 2),
    ):
        result = evoken(*command)
        assert clean(result), command
        assert result.exit_code == code, (command, result.output)
    texts = [path for path in Path().rglob("*") if path.suffix in (".html", ".md", ".csv")]
    assert any(path.name == "compare.html" for path in texts)
    for path in texts:
        assert not RAW.search(path.read_text()), path


def test_a_foreign_edit_is_printed_plain(tiny_folder: Path, photos: Path) -> None:
    small = ("--model", tiny_folder / "flow", "--steps", 2, "--iterations", 1)
    asked = ("--from", f"a cat {EVIL}", "--to", f"a dog {EVIL}")
    picture = photos / f"0{EVIL.replace('/', '')}.png"
    (photos / "0.png").rename(picture)
    result = evoken("edit", picture, *asked, *small, "--output", "runs/edit")
    clean(result)
    clean(evoken("pick", "runs/edit", 0))
    clean(evoken("runs"))
    assert files(Path("runs/edit/picked"))
    assert not RAW.search(Path("runs/edit/report.html").read_text())


def test_letters_of_all_scripts_stay() -> None:
    for text in ("naïve Å 猫 кот قطة 🐈", "a\u00a0b"):
        assert plain(text) == text.replace("\u00a0", " ")
    assert plain("a\tb\nc", "\n") == "a?b\nc"


def test_a_message_is_never_longer_than_somebody_reads(tiny_folder: Path) -> None:
    prompt = "cat " * 10_000
    result = evoken("generate", prompt, "--model", tiny_folder / "model", "--count", 1)
    assert result.exit_code == 2 and len(result.stderr) < PROBLEM + FIX
    result = evoken("learn", "x", "--search", prompt)
    assert result.exit_code == 2 and len(result.stderr) < PROBLEM + FIX
    result = evoken("merge", *[f"x{i}:{i}" for i in range(5000)], "--output", prompt)
    assert result.exit_code == 2 and len(result.stderr) < PROBLEM + FIX
