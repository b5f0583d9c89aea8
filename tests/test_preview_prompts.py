"""Sentences of one's own for previews and the report."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from evoken.errors import SettingError
from evoken.textual_inversion.settings import LearnSettings
from tests.commands import refused

pytestmark = pytest.mark.usefixtures("own_folder")


def test_previews_and_report_show_the_given_sentences(
    learn: Callable[..., Result], done: Path
) -> None:
    more = ("--preview-prompt", "a red {}", "--preview-prompt", "a blue <disc>")
    result = learn(*more, "--samples", 1, "--preview-every", 5, "--output", "own")
    assert result.exit_code == 0, result.output
    report = Path("own/report.html").read_text()
    assert "a red &lt;disc&gt;</h3>" in report and "a blue &lt;disc&gt;</h3>" in report
    assert "in the snow" not in report
    assert {p.name for p in Path("own/samples").iterdir()} == {
        f"0{i}-{name}.png" for i in (0, 1) for name in ("before", "after")
    }
    with Image.open("own/previews/0000.png") as two, Image.open(done / "previews/0000.png") as one:
        assert two.width == one.width and two.height > 1.9 * one.height
    word = "learned_embeds.safetensors"
    assert (Path("own") / word).read_bytes() == (done / word).read_bytes()


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("a disc in the rain", "a <disc> in the rain"),
        ("in the rain", "a photo of a <disc>, in the rain"),
        ("a <disc>_2", "a photo of a <disc>, a <disc>_2"),
    ],
)
def test_a_sentence_without_the_word_is_refused_with_a_better_one(text: str, better: str) -> None:
    with pytest.raises(SettingError) as error:
        LearnSettings("<disc>", preview_prompts=(text,))
    assert error.value.fix == f"Write {better!r}."


def test_bad_sentences_are_refused_before_anything_is_written(
    learn: Callable[..., Result],
) -> None:
    refused(learn("--preview-prompt", "a disc"), "--preview-prompt", "'a <disc>'")
    refused(learn("--preview-prompt", "a {}" + " on the beach" * 20), "tokens")
    assert not Path("runs").exists()
