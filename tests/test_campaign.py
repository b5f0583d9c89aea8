"""A handful of the campaign's kills and inputs, as ``make campaign`` does thousands."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.campaign import report
from benchmarks.campaign.inputs import KINDS, problems
from benchmarks.campaign.judge import run, word
from benchmarks.campaign.mutate import damage
from benchmarks.campaign.process import Ended
from benchmarks.campaign.soak import slope

ROOT = Path(__file__).parent.parent


def test_a_handful_of_every_kind_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    few = ("--kills", 2, "--inputs", len(KINDS), "--soak", 0.02, "--lanes", 1, "--seed", 50)
    arguments = ("-m", "benchmarks.campaign", *few, "--results", file)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = report.rows(file, 50)
    found = report.found(rows)
    assert found.pop("campaign.kills") >= 2 and found.pop("campaign.inputs") == len(KINDS)
    assert report.SOAK in found
    found.pop(report.SOAK)  # too short to say anything
    assert not any(found.values()), done.stdout


def test_the_same_number_is_the_same_damage(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    seen = set()
    for number in range(40):
        twice = []
        for _ in range(2):
            file.unlink(missing_ok=True)
            file.write_text(json.dumps({"a": [1, 2, {"b": "c"}], "d": 0.5}))
            what = damage(file, [], np.random.default_rng(number))
            twice.append((what, file.read_bytes() if file.is_file() else b""))
            if file.is_dir():
                file.rmdir()
        assert twice[0] == twice[1]
        seen.add(twice[0])
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("ended", "wrong"),
    [
        (Ended(0, 1.0, 10.0, "", ""), set()),
        (Ended(2, 1.0, 10.0, "", "error: there is no folder 'x'.\n"), set()),
        (Ended(2, 1.0, 10.0, "", "Usage: evoken\nerror: no.\n"), {"tracebacks"}),
        (Ended(2, 1.0, 10.0, "", f"error: {'x' * 600}\n"), {"tracebacks"}),
        (Ended(70, 1.0, 10.0, "", "error: this is a bug of evoken.\n"), {"tracebacks"}),
        (Ended(-11, 1.0, 10.0, "", ""), {"tracebacks"}),
        (Ended(0, 21.0, 2100.0, "", ""), {"over_time", "over_memory"}),
    ],
)
def test_what_is_counted(ended: Ended, wrong: set[str]) -> None:
    assert set(problems(ended, interrupted=False)) == wrong


def test_another_result_is_seen(tmp_path: Path) -> None:
    whole, other = tmp_path / "whole", tmp_path / "other"
    for folder in (whole, other):
        folder.mkdir()
        (folder / "learned_embeds.safetensors").write_bytes(b"word")
        (folder / "records.jsonl").write_text('{"generation": 0, "seconds": 1, "loss": 2}\n')
    assert run(str(whole), str(other)) == ""
    (other / "records.jsonl").write_text('{"generation": 0, "seconds": 3, "loss": 2}\n')
    assert run(str(whole), str(other)) == ""
    (other / "records.jsonl").write_text('{"generation": 0, "seconds": 3, "loss": 1}\n')
    assert run(str(whole), str(other)) == "other records"
    (other / "learned_embeds.safetensors").write_bytes(b"another")
    assert "another" in run(str(whole), str(other))


def test_other_vectors_are_seen(tmp_path: Path) -> None:
    from evoken.words.files import safetensors_bytes
    from tests.words import vectors

    (tmp_path / "made").mkdir()
    one, other = vectors(768, 2), vectors(768, 2, seed=1)
    (tmp_path / "cat.safetensors").write_bytes(safetensors_bytes({"<cat>": one}, {}))
    for made, said in ((one, ""), (other, "vectors that are not in the file")):
        (tmp_path / "made" / "cat.safetensors").write_bytes(safetensors_bytes({"a": made}, {}))
        assert word(str(tmp_path / "cat.safetensors"), str(tmp_path / "made")) == said


def test_the_slope_is_not_moved_by_a_peak() -> None:
    assert slope([(t, 100 + 0.5 * t + 80 * (t == 7)) for t in map(float, range(20))]) == 0.5


def test_figures_are_of_a_whole_campaign_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = (ROOT / "docs" / "figures.json").read_bytes()
    report.publish([{"kind": "kills", "kills": 3, "problems": []}])
    assert "not whole yet" in capsys.readouterr().out
    assert (ROOT / "docs" / "figures.json").read_bytes() == before
