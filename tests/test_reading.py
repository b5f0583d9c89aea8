"""What CLIP read of a large vocabulary is kept, and is what it would read anew."""

import shutil
from pathlib import Path

import pytest
import torch

from evoken.errors import SettingError
from evoken.models.clip import BATCH, Clip
from evoken.textual_inversion import reading
from evoken.textual_inversion.reading import read, text_features

TEXTS = [f"a photo of a {a} {b}" for a in ("cat", "dog", "disc") for b in range(200)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a vocabulary that counts as a large one."""
    monkeypatch.setattr(reading, "MANY", len(TEXTS))
    monkeypatch.setenv("EVOKEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_texts_are_read_once_a_part_at_a_time(clip: Clip, cache: Path) -> None:
    assert list(read(clip, TEXTS)) == [BATCH, 2 * BATCH, len(TEXTS)]
    assert list(read(clip, TEXTS)) == []
    assert torch.equal(text_features(clip, TEXTS), clip.text_features(TEXTS))


def test_few_texts_are_not_kept(clip: Clip, cache: Path) -> None:
    assert list(read(clip, TEXTS[1:])) == []
    assert torch.equal(text_features(clip, TEXTS[1:]), clip.text_features(TEXTS[1:]))
    assert not cache.exists()


def test_what_was_kept_belongs_to_weights_and_texts(
    clip: Clip, cache: Path, tiny_folder: Path
) -> None:
    text_features(clip, TEXTS)
    other = Clip.load(str(tiny_folder / "clip"))
    assert list(read(other, TEXTS)) == []
    assert list(read(other, TEXTS[::-1]))
    with torch.no_grad():
        other.model.text_projection.weight[0, 0] += 1
    assert torch.equal(text_features(other, TEXTS), other.text_features(TEXTS))
    assert not torch.equal(text_features(other, TEXTS), text_features(clip, TEXTS))


@pytest.mark.parametrize("damage", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_is_read_anew(clip: Clip, cache: Path, damage: bytes) -> None:
    expected = text_features(clip, TEXTS)
    (file,) = cache.iterdir()
    file.write_bytes(damage)
    assert torch.equal(text_features(clip, TEXTS), expected)


def test_a_cache_that_cannot_be_written(clip: Clip, cache: Path) -> None:
    shutil.rmtree(cache, ignore_errors=True)
    cache.write_text("a file in its place")
    with pytest.raises(SettingError, match="EVOKEN_CACHE"):
        text_features(clip, TEXTS)


def test_learning_says_that_it_reads(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, photos: Path, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from evoken.cli.app import app

    monkeypatch.setattr(reading, "MANY", 1)
    outputs = []
    for name in ("first", "second"):
        options = [
            "--model",
            str(tiny_folder / "model"),
            "--clip",
            str(tiny_folder / "clip"),
            "--popsize",
            "4",
            "--draws",
            "2",
            "--validation-draws",
            "2",
            "--calls",
            "40",
            "--preview-every",
            "0",
            "--samples",
            "0",
            "--output",
            str(tmp_path / name),
        ]
        found = CliRunner().invoke(app, ["learn", str(photos), *options])
        assert found.exit_code == 0, found.output
        outputs.append("CLIP reads" in found.output)
    assert outputs == [True, False]
