"""What a user's terminal shows is evoken's own; what a user's program has set stays as it is."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evoken.decoding import decode, decode_mask, decode_with_alpha
from tests.conftest import make_photos

SMALL = "--popsize 5 --draws 4 --validation-draws 8 --calls 64 --samples 0 --preview-every 0"
DRAW = "--count 1 --steps 2"
# Commands as a user types them, one after the other in one process: loading torch takes long.
COMMANDS = f"""
learn disc --model tiny/model --clip tiny/clip {SMALL} --output runs/one
learn disc --model tiny/xl --clip tiny/clip {SMALL} --output runs/two
generate <disc> --word runs/one {DRAW}
generate <disc> --model tiny/second --word runs/one {DRAW}
generate cat --model tiny/flow {DRAW}
generate cat --model tiny/flux --precision bfloat16 {DRAW}
generate cat --model tiny/flux --runtime torch-int8 {DRAW}
generate cat {DRAW}
edit disc/0.png --from cat --to dog --model tiny/flow --steps 3 --iterations 1 --output runs/edit
edit disc/0.png --from cat --to dog --model tiny/flow --steps 3 --iterations 1 --output runs/edit
pick runs/edit 0
evaluate runs/one --count 2
retrieve runs/one disc
inspect runs/two
convert runs/one --to pt
merge runs/one runs/one --output both.safetensors
compare runs/one runs/two
runs
"""
AS_A_USER = """
import sys
from evoken.cli import main
for line in sys.stdin.read().split("\\n"):
    if line:
        sys.argv = ["evoken", *line.split()]
        try:
            main()
        except SystemExit as end:
            print(f"{line.split()[0]} ended with {end.code}", file=sys.stderr)
"""
AS_A_PROGRAM = """
import logging, sys, warnings
import diffusers.utils.logging as d, transformers.utils.logging as t
import evoken
def settings():
    return (
        logging.root.manager.disable, logging.root.handlers, logging.root.level, d.get_verbosity(),
        t.get_verbosity(), d.is_progress_bar_enabled(), t.is_progress_bar_enabled(),
    )
before, filters = settings(), list(warnings.filters)
kinds = ("model", "float32"), ("xl", "float32"), ("lumina-2", "float32"), ("flux", "bfloat16")
for name, precision in kinds:
    model = evoken.load_model(evoken.ModelSpec(f"tiny/{name}", precision=precision))
    evoken.draw(model, "a cat", count=1, steps=2)
    try:
        evoken.draw(model, "cat " * 900)
    except evoken.EvokenError:
        print("too long", file=sys.stderr)
evoken.draw(model, "a (cat:1.3)", count=1, steps=2)
assert settings() == before, settings()
assert all(kind in warnings.filters for kind in filters)
assert ("ignore", None, Warning, None, 0) not in warnings.filters
"""


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: Path) -> Path:
    (tmp_path / "tiny").symlink_to(tiny_folder)
    make_photos(tmp_path / "disc")
    return tmp_path


def stderr_of(code: str, folder: Path, typed: str = "") -> list[str]:
    """The lines on stderr of a process of its own, with nothing set that would silence it."""
    loud = {name: value for name, value in os.environ.items() if "VERBOSITY" not in name}
    loud |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    loud |= {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        input=typed,
        env=loud,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_a_user_reads_nothing_of_other_libraries(folder: Path) -> None:
    said = stderr_of(AS_A_USER, folder, COMMANDS)
    ends = [f"{line.split()[0]} ended with 0" for line in COMMANDS.split("\n") if line]
    twice = "error: runs/edit already exists. Choose another folder with --output, or continue "
    again = ends.index("edit ended with 0") + 1
    ends[again : again + 1] = [f"{twice}this run with --resume.", "edit ended with 2"]
    assert said == ends


def test_a_program_keeps_its_settings_and_is_told_of_prompts(folder: Path) -> None:
    *before, note = stderr_of(AS_A_PROGRAM, folder)
    assert before == ["too long"] * 4
    assert "<string>:19: PromptWarning: '(cat:1.3)' is a weight" in note


def odd_pictures() -> dict[str, bytes]:
    """Pictures that Pillow warns of."""
    found = {}
    content = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(content, "JPEG", exif=b"Exif\0\0II*\0\xff")
    found["exif"] = content.getvalue()
    content = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("P").save(content, "PNG", transparency=bytes(range(9)))
    found["palette"] = content.getvalue()
    content = io.BytesIO()
    Image.fromarray(np.zeros((9500, 9500), bool)).save(content, "PNG")
    found["bomb"] = content.getvalue()
    return found


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_pictures_are_read_without_a_word(
    name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    content = odd_pictures()[name]
    for read in (decode, decode_with_alpha, decode_mask):
        read(content, Path("odd"))
    assert not caplog.records and capfd.readouterr() == ("", "")
