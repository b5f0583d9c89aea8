"""What strangers write is bounded before anything looks at it, and models before they are made."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoken.documents import MOST_BYTES, MOST_DEPTH, read_json, read_yaml
from evoken.errors import ModelError
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from tests.commands import evoken, refused

pytestmark = pytest.mark.usefixtures("own_folder")

# Ten aliases of ten aliases, and so on: 700 bytes for 10^11 values.
BOMB = "a: &a [1, 1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(11)
)
ENDLESS = {
    "aliases": BOMB,
    "itself": "&a [*a]",
    "brackets": "[" * 2_000,
    "closed brackets": "[" * 2_000 + "]" * 2_000,
    "a stack of C": "[" * 500_000,
    "dashes": "- " * 10_000,
    "long": "- init_img: a.png\n" * 100_000,
}
ODD = {
    "date": "steps: 2026-13-45",
    "number": "steps: " + "9" * 5_000,
    "tag": "steps: !!python/object/apply:os.system ['touch made']",
    "zero": "steps: \0",
    "surrogate": 'steps: "\\ud800"',
    "key": "? [a, b]\n: c",
    "bytes": "steps: !!binary x",
    "hexadecimal": "steps: 0x",
    "large": "steps: " + "9" * 400,
}


@pytest.mark.parametrize("case", [*ENDLESS, *ODD])
def test_a_yaml_that_is_no_good_is_one_short_sentence_at_once(case: str, photos: Path) -> None:
    Path("bad.yaml").write_text((ENDLESS | ODD)[case])
    began = time.monotonic()
    for command in (
        ("learn", photos, "--config", "bad.yaml"),
        ("edit", "bad.yaml", "--model", "stickers-flow"),
    ):
        result = evoken(*command)
        refused(result)
        assert len(result.stderr) < 500
    assert time.monotonic() - began < 10
    assert sorted(p.name for p in Path().iterdir()) == ["bad.yaml", "disc"]


@given(st.text() | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_is_read_or_refused(text: str) -> None:
    for file, read in ((Path("x.yaml"), read_yaml), (Path("x.json"), read_json)):
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        with suppress(ValueError):
            read(file)


def test_json_has_the_same_bounds() -> None:
    file = Path("x.json")
    for text, words in (
        ("[" * 1_500 + "]" * 1_500, f"more than {MOST_DEPTH} deep"),
        ("[" * 300_000, f"more than {MOST_DEPTH} deep"),
        (json.dumps([0] * 200_000), "more than 100,000 values"),
        (" " * (MOST_BYTES + 1), "bytes"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_json(file)


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_device_that_never_ends_is_not_read_to_its_end(read: Callable[[Path], Any]) -> None:
    with pytest.raises(ValueError, match="more than 1,048,576 bytes"):
        read(Path("/dev/zero"))


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_pipe_is_read_if_somebody_writes_into_it(read: Callable[[Path], Any]) -> None:
    os.mkfifo("pipe")
    with pytest.raises(ValueError, match="a pipe into which nothing is written"):
        read(Path("pipe"))
    writing = subprocess.Popen(["sh", "-c", "exec >pipe; sleep 0.2; echo '{\"steps\": 3}'"])
    for _ in range(100):
        with suppress(ValueError):
            assert read(Path("pipe")) == {"steps": 3}
            break
        time.sleep(0.01)
    else:
        pytest.fail("nothing was read")
    writing.wait()


def test_a_run_of_an_endless_list_of_pictures_is_refused_at_once(done: Path) -> None:
    (done / "inputs.json").write_text(json.dumps([{"name": "x" * 200, "sha256": ""}] * 100_000))
    began = time.monotonic()
    refused(evoken("learn", "--resume", done), "inputs.json is damaged")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("text_encoder", "max_position_embeddings", 10**8),
        ("text_encoder", "num_hidden_layers", 10**6),
        ("text_encoder", "vocab_size", 10**9),
        ("text_encoder", "intermediate_size", 10**8),
        ("unet", "layers_per_block", 10**6),
        ("unet", "block_out_channels", [32, 10**7]),
        ("vae", "latent_channels", 10**8),
    ],
)
def test_a_configuration_that_asks_for_more_than_the_weights_hold_is_refused(
    part: str, name: str, value: object, tiny_folder: Path
) -> None:
    shutil.copytree(tiny_folder / "model", "model")
    file = Path("model") / part / "config.json"
    config = json.loads(file.read_text())
    assert name in config
    file.write_text(json.dumps(config | {name: value}))
    began = time.monotonic()
    with pytest.raises(ModelError, match=f"'{name}' = [0-9,]+, and its weights have"):
        load_model(ModelSpec("model"))
    assert time.monotonic() - began < 10
