"""A run goes on from what it wrote: no changed byte, setting, picture or model is silent."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evoken.errors import RunError
from evoken.flowopt.folder import FlowOptRun
from evoken.records import append_record, read_records
from evoken.run_folder import write_config
from evoken.search.gauss_newton import GaussNewton
from evoken.textual_inversion.folder import LearnRun
from tests.commands import QUICK, evoken, files, refused

pytestmark = pytest.mark.usefixtures("own_folder")


def flip(file: Path, at: int = -1, bit: int = 1) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= bit
    file.write_bytes(content)


RECORDS = [{"generation": i, "losses": [0.1 * i, None], "name": "ä\n"} for i in range(4)]


@given(st.integers(0, 10**6), st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_refused_in_the_middle_and_dropped_at_the_end(at: int, bit: int) -> None:
    file = Path("records.jsonl")
    file.unlink(missing_ok=True)
    for record in RECORDS:
        append_record(file, record)
    assert read_records(file) == RECORDS
    whole = file.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    at %= len(whole)
    flip(file, at, 1 << bit)
    if at < last - 1:
        with pytest.raises(RunError, match=r"records.jsonl is damaged \(line [1-3]: "):
            read_records(file)
    elif at >= last:  # it is done again, in its place
        assert read_records(file) == RECORDS[:3]
        append_record(file, RECORDS[3])
        assert file.read_bytes() == whole


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_what_json_does_not_know_is_not_written(loss: float) -> None:
    file = Path("records.jsonl")
    append_record(file, RECORDS[0])
    whole = file.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        append_record(file, {"loss": loss})
    assert file.read_bytes() == whole


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_line_that_was_cut_off_is_written_again(cut: int) -> None:
    file = Path("records.jsonl")
    for record in RECORDS:
        append_record(file, record)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert read_records(file) == RECORDS[:3]
    append_record(file, RECORDS[3])
    assert file.read_bytes() == whole


def test_a_line_without_a_checksum_is_not_whole_where_all_have_one() -> None:
    file = Path("records.jsonl")
    append_record(file, RECORDS[0])
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"generation": 1}\n')
    assert read_records(file) == RECORDS[:1]
    append_record(file, RECORDS[1])
    assert read_records(file) == RECORDS[:2] and file.read_bytes().startswith(whole)


def test_what_is_no_json_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_record(Path("records.jsonl"), {"loss": float("nan")})
    assert not Path("records.jsonl").exists()


def test_long_lines_and_those_of_earlier_versions_are_read() -> None:
    file = Path("records.jsonl")
    long = {"losses": [0.123456789] * 30_000}  # more than is looked at at once
    file.write_text('{"generation": 0}\n')
    for _ in range(2):
        append_record(file, long, sealed=False)
    assert read_records(file, sealed=False) == [{"generation": 0}, long, long]
    with pytest.raises(RunError, match="line 1"):
        read_records(file)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"seed": 9}},
        {"settings": {"calls": 99_999}},
        {"model": {"precision": "bfloat16"}},
        {"planned_calls": 5},
    ],
)
def test_a_setting_changed_by_hand_is_refused(done: Path, change: dict[str, Any]) -> None:
    file = done / "config.json"
    config = json.loads(file.read_text())
    changed = {k: config.get(k, {}) | v if isinstance(v, dict) else v for k, v in change.items()}
    file.write_text(json.dumps(config | changed))
    before = files(done)
    refused(evoken("learn", "--resume", done, "--calls", 500), "config.json was changed")
    refused(evoken("finish", done), "config.json was changed")
    assert files(done) == before


@pytest.mark.parametrize("name", ["inputs/00.png", "inputs.json"])
def test_pictures_exchanged_are_refused(done: Path, name: str) -> None:
    other = done / "inputs/01.png"
    if name == "inputs.json":
        entries = json.loads((done / name).read_text())
        entries[0]["caption"] = "another thing"
        (done / name).write_text(json.dumps(entries))
    else:
        shutil.copy(other, done / name)
    refused(evoken("learn", "--resume", done, "--calls", 500), f"{name} is damaged", "changed")


PARTS = [
    "text_encoder/model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "tokenizer/tokenizer.json",
    "clip",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_run_goes_on_only_with_the_models_it_began_with(
    tiny_folder: Path, photos: Path, part: str
) -> None:
    shutil.copytree(tiny_folder / "model", "model")
    shutil.copytree(tiny_folder / "clip", "clip")
    made = evoken("learn", photos, "--model", "model", "--clip", "clip", *QUICK, "--calls", 64)
    assert made.exit_code == 0, made.output
    more = ("learn", "--resume", "runs/disc", "--calls")
    assert evoken(*more, 100).exit_code == 0
    file = Path("clip/model.safetensors") if part == "clip" else Path("model") / part
    if file.suffix == ".json":
        file.write_text(file.read_text() + " ")
    else:
        flip(file)
    whose = "clip' is" if part == "clip" else "model' are" if "unet" in part else "model' is"
    refused(evoken(*more, 200), whose, "the run started with")


def test_a_model_that_was_moved_is_found_where_config_json_says(
    tiny_folder: Path, photos: Path
) -> None:
    """Its path may be corrected by hand: its weights have hashes."""
    shutil.copytree(tiny_folder / "model", "model")
    clip = tiny_folder / "clip"
    assert (
        evoken("learn", photos, "--model", "model", "--clip", clip, *QUICK, "--calls", 64).exit_code
        == 0
    )
    Path("model").rename("moved")
    config = Path("runs/disc/config.json")
    config.write_text(config.read_text().replace('"name": "model"', '"name": "moved"'))
    assert evoken("learn", "--resume", "runs/disc", "--calls", 100).exit_code == 0
    assert evoken("learn", "--resume", "runs/disc", "--calls", 200).exit_code == 0


def test_other_versions_are_noted(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_now = LearnRun.open(done).config["versions"]
    monkeypatch.setattr("evoken.run_folder.versions", lambda: of_now | {"torch": "9.9"})
    result = evoken("learn", "--resume", done, "--calls", 500)
    assert result.exit_code == 0
    assert f"began with torch '{of_now['torch']}'" in result.output.replace("\n", " ")


def test_a_run_of_another_revision_of_its_search_does_not_go_on(done: Path) -> None:
    """Its records are of other candidates. What reads its word alone is not concerned."""
    config = json.loads((done / "config.json").read_text())
    assert config.pop("search_revision") == GaussNewton.revision  # earlier versions wrote none
    write_config(done, {k: v for k, v in config.items() if k != "checksum"})
    before = files(done)
    said = (
        f"{done} began with another version of the search gauss-newton",
        f"evoken learn FOLDER --start {done}",
    )
    refused(evoken("learn", "--resume", done, "--calls", 500), *said)
    refused(evoken("finish", done), *said)
    refused(evoken("pick", done, 1), *said)
    assert files(done) == before
    assert evoken("evaluate", done, "--count", 2).exit_code == 0
    sep_cma = config["settings"] | {"search": "sep-cma"}  # which is as it was
    LearnRun(done, config | {"settings": sep_cma}).check_search()


@pytest.fixture
def edited(tiny_folder: Path, photos: Path) -> Path:
    few = ("--steps", 2, "--last", 2, "--iterations", 2, "--clip", tiny_folder / "clip")
    prompts = ("--from", "a cat", "--to", "a dog", "--model", tiny_folder / "flow")
    made = evoken("edit", photos / "0.png", *prompts, *few, "--output", "edit")
    assert made.exit_code == 0, made.output
    return Path("edit")


def test_a_state_with_a_flipped_bit_is_refused(edited: Path) -> None:
    flip(edited / "states" / "001.safetensors")
    refused(evoken("edit", "--resume", edited), "001.safetensors is damaged")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: flip(path / "inputs/00.png"),
        lambda path: _rewrite(path, "sources", ["a bird"]),
        lambda path: _rewrite(path, "targets", ["a bird"]),
        lambda path: _rewrite(path, "pictures", []),
    ],
)
def test_an_edit_goes_on_only_with_what_it_began_with(
    edited: Path, change: Callable[[Path], None]
) -> None:
    change(edited)
    refused(evoken("edit", "--resume", edited), "changed after the run began")


def _rewrite(path: Path, key: str, value: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {key: value}))


def test_a_last_record_that_is_damaged_is_done_again(edited: Path) -> None:
    whole = FlowOptRun.open(edited).records()
    flip(edited / "records.jsonl", -5)
    assert FlowOptRun.open(edited).records() == whole[:-1]
    assert evoken("edit", "--resume", edited).exit_code == 0
    again = FlowOptRun.open(edited).records()
    assert again == whole


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        Path.unlink,
        lambda picture: shutil.copy(picture.with_name("00-000.png"), picture),
    ],
)
def test_an_iterate_that_is_not_as_it_was_written_is_not_given_out(
    edited: Path, damage: Callable[[Path], object]
) -> None:
    damage(edited / "iterates/00-001.png")
    refused(evoken("pick", edited, 1), "iterates/00-001.png is damaged")
    refused(evoken("edit", "--resume", edited), "iterates/00-001.png is damaged")
    assert not (edited / "picked").exists()
    assert evoken("pick", edited, 0).exit_code == 0


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_damaged_noise_is_written_again(edited: Path, damage: Callable[[Path], None]) -> None:
    noise = edited / "noise.safetensors"
    whole = noise.read_bytes()
    damage(noise)
    assert evoken("edit", "--resume", edited).exit_code == 0
    assert noise.read_bytes() == whole


def test_a_score_that_is_damaged_stops_nothing(done: Path) -> None:
    """A run could otherwise never be finished."""
    (done / "previews/notes.png").write_text("mine")
    whole = json.loads((done / "previews/0000.json").read_text())
    damages = ["[" * 2_000, "null", json.dumps(whole | {"high": "y" * 99}), "{}"]
    damages += [json.dumps(whole | {"low": {"a": 1}}), json.dumps(whole | {"n": None})]
    for damage in damages:
        (done / "previews/0000.json").write_text(damage)
        assert 0 not in LearnRun.open(done).scores()
    result = evoken("learn", "--resume", done, "--calls", 500)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", ["previews/0000.png", "samples/00-before.png"])
def test_a_drawn_picture_that_is_damaged_is_named_before_the_work(done: Path, name: str) -> None:
    flip(done / name, at=40)
    before = files(done)
    refused(evoken("learn", "--resume", done, "--calls", 500), f"{name} is not an image. Remove it")
    assert files(done) == before
    (done / name).unlink()
    assert evoken("learn", "--resume", done, "--calls", 500).exit_code == 0
    assert (done / name).exists() == name.startswith("samples")
