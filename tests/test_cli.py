"""The command line in-process: what a user types and what they see."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from typer.testing import Result

from evoken.cli.common import load_words, spec_of
from evoken.errors import SettingError
from evoken.models.bases import FLUX, SD3, SDXL, Base
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.run_folder import held
from evoken.textual_inversion import workflow
from evoken.textual_inversion.card import write_card
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.report import write_report
from evoken.words.word import Word, save_word
from tests.commands import ONE_SENTENCE, QUICK, evoken, files, refused
from tests.conftest import make_photos


def test_learning_leaves_a_whole_run_folder(done: Path) -> None:
    names = {str(p.relative_to(done)) for p in done.rglob("*") if p.is_file()}
    assert {
        "config.json",
        "inputs.json",
        "records.jsonl",
        "learned_embeds.safetensors",
        "README.md",
        "report.html",
        "previews/0000.png",
        "inputs/00.png",
        "samples/00-before.png",
        "samples/00-after.png",
    } <= names
    report = (done / "report.html").read_text()
    assert "&lt;disc&gt;" in report and "on the beach" in report
    assert report.count("data:image/webp;base64,") >= 4 + 2 * 9 + 2
    assert "http://" not in report and "https://" not in report
    assert json.loads((done / "config.json").read_text())["settings"]["placeholder"] == "<disc>"


pytestmark = pytest.mark.usefixtures("own_folder")


def test_the_word_tells_what_it_was_learned_with(done: Path) -> None:
    with safe_open(done / "learned_embeds.safetensors", "pt") as word:
        about = json.loads(word.metadata()["evoken"])
    run = LearnRun.open(done)
    best = min(run.records(), key=lambda r: r.validation)
    assert about["weights"] == run.config["weights"] and len(about["weights"]) == 64
    assert about["generation"] == str(best.generation)
    assert float(about["validation_loss"]) == pytest.approx(best.validation, rel=1e-5)
    assert {"evoken", "model", "kind", "preset", "seed", "calls"} <= set(about)
    assert set(run.config["versions"]) >= {"evoken", "torch", "diffusers"}


def test_a_style_is_used_in_sentences_of_styles(learn: Callable[..., Result]) -> None:
    result = learn("--kind", "style", "--word", "<ink>", "--calls", 64, "--output", "a folder/ink")
    assert result.exit_code == 0, result.output
    shown = "--word 'a folder/ink'"
    assert f'evoken generate "a painting in the style of <ink>" {shown}' in result.output
    card = Path("a folder/ink/README.md").read_text()
    assert 'evoken generate "a cat in the style of <ink>" --word ink\n' in card


def test_the_report_names_the_generation_that_gave_the_word(learn: Callable[..., Result]) -> None:
    how = ("--search", "cma", "--mistake", "last-best", "--calls", 200)
    assert learn(*how).exit_code == 0
    last = LearnRun.open(Path("runs/disc")).records()[-1].generation
    report = Path("runs/disc/report.html").read_text()
    assert f"at generation {last}, whose word is the result" in report


def test_the_word_is_one_that_diffusers_loads(done: Path, tiny_folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder / "model")
    pipe.load_textual_inversion(str(done))
    token = pipe.tokenizer.convert_tokens_to_ids("<disc>")
    loaded = pipe.text_encoder.get_input_embeddings().weight[token]
    assert torch.equal(loaded, LearnRun.open(done).word().vectors[0])


def test_the_cards_code_works_where_the_run_and_the_model_are(
    done: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_card(LearnRun.open(done))  # the one that is there names the folder it was made in
    (done.parent / "model").symlink_to(tiny_folder / "model")
    monkeypatch.chdir(done.parent)
    code, _, _ = Path("disc/README.md").read_text().split("```python\n")[1].partition("```")
    exec(code, {})
    with Image.open("picture.png") as picture:
        assert picture.size == (16, 16)


@pytest.mark.parametrize(
    ("base", "encoders", "lines"),
    [
        (
            SDXL,
            ("clip_l", "clip_g"),
            ("StableDiffusionXLPipeline", "word['clip_l']", "word['clip_g']"),
        ),
        (FLUX, ("clip_l", "t5xxl"), ("FluxPipeline", "word['t5xxl']")),
        (FLUX, ("clip_l",), ("FluxPipeline", "word['<disc>']")),
        (SD3, ("clip_l", "clip_g"), ()),
    ],
)
def test_the_card_says_how_each_family_loads_the_word(
    done: Path, base: Base, encoders: tuple[str, ...], lines: tuple[str, ...]
) -> None:
    widths = {name: base.widths[name] for name in encoders}
    word = Word("<disc>", torch.randn(1, sum(widths.values())), widths)
    save_word(done / "learned_embeds.safetensors", word, {"architecture": base.architecture})
    config = json.loads((done / "config.json").read_text())
    config["model"]["name"] = "some/model"
    (done / "config.json").write_text(json.dumps(config))
    write_card(LearnRun.open(done))
    card = (done / "README.md").read_text()
    assert "base_model: some/model" in card
    assert ("```python" in card) == bool(lines)
    for line in lines:
        assert line in card


def test_a_word_s_file_says_what_it_is_for(done: Path) -> None:
    with safe_open(done / "learned_embeds.safetensors", "pt") as word:
        header = word.metadata()
    assert header["modelspec.trigger_phrase"] == "<disc>"
    assert header["base_model"] == Path(LearnRun.open(done).spec.name).name
    assert "base_model" not in (done / "README.md").read_text()  # a folder is no repository


def test_resume_takes_nothing_that_it_would_pass_over(done: Path) -> None:
    refused(
        evoken("learn", "--resume", done, "--draws", 9), "--draws cannot be given with --resume"
    )
    refused(
        evoken("learn", done, "--resume", done, "--device", "cpu"),
        "--device, IMAGES cannot be given",
    )
    assert evoken("learn", "--resume", done, "--workers", 1).exit_code == 0


def test_generate_draws_the_word_and_overwrites_nothing(done: Path) -> None:
    prompt = "a photo of a <disc> on the beach"
    for _ in range(2):
        result = evoken("generate", prompt, "--word", done, "--count", 3, "--steps", 2)
        assert result.exit_code == 0, result.output
    sheets = sorted(p.name for p in Path("pictures").glob("*-0*.png"))
    assert len(sheets) == 2 * (3 + 1)
    with Image.open(next(Path("pictures").glob("*-00.png"))) as picture:
        assert picture.size == (16, 16)


def test_generate_takes_no_name_that_a_picture_has(tiny_folder: Path) -> None:
    Path("pictures").mkdir()
    Path("pictures/a-cat-0-01.png").write_bytes(b"mine")
    result = evoken("generate", "a cat", "--model", tiny_folder / "model", "--steps", 2)
    assert result.exit_code == 0, result.output
    assert Path("pictures/a-cat-0-01.png").read_bytes() == b"mine"
    assert len(list(Path("pictures").glob("a-cat-0-2*.png"))) == 5


def test_generate_says_how_many_steps_make_sense(tiny_folder: Path) -> None:
    refused(evoken("generate", "a cat", "--model", tiny_folder / "model", "--steps", 999), "500")
    assert not Path("pictures").exists()


def test_pictures_are_drawn_towards_a_prompt_and_into_a_folder(tiny_folder: Path) -> None:
    draw = ("generate", "a cat", "--model", tiny_folder / "model", "--steps", 2)
    refused(evoken(*draw, "--guidance", 0), "--guidance must be from 1 to 1,000 (got 0")
    refused(evoken(*draw, "--output", "cat.png"), "--output must be a folder (got cat.png)")
    assert not Path("cat.png").exists()


def test_words_for_different_encoders_need_a_choice() -> None:
    one = Word("<a>", torch.zeros(1, 768), {"clip_l": 768})
    both = Word("<b>", torch.zeros(1, 2048), {"clip_l": 768, "clip_g": 1280})
    for words in ([one, both], [both, one]):
        with pytest.raises(SettingError, match="for different text encoders"):
            spec_of(words, [], "xl", {})
    assert spec_of([one, both], [], "xl", {"encoders": "clip_l"}).encoders == "clip_l"
    assert spec_of([one, one], [], "xl", {}).encoders == ""


def test_a_run_says_how_its_word_is_computed(done: Path) -> None:
    _, (spec,) = load_words([str(done)])
    odd = replace(spec, precision="bfloat16", runtime="torch-int8")
    assert spec_of([], [odd], "stickers", {}) == replace(odd, device="auto")
    assert spec_of([], [odd], "stickers", {"device": "cpu"}) == odd
    elsewhere = replace(odd, device="cuda")  # this machine has none
    assert spec_of([], [elsewhere], "stickers", {}) == replace(odd, device="auto", precision="auto")


def test_two_processes_never_work_on_one_run(done: Path) -> None:
    (done / "records.jsonl").write_text("")
    with held(done):
        refused(evoken("learn", "--resume", done), "another process")
    assert evoken("learn", "--resume", done).exit_code == 0


def test_a_run_of_two_writers_is_no_run(done: Path) -> None:
    lines = (done / "records.jsonl").read_text()
    (done / "records.jsonl").write_text(lines + lines)
    refused(evoken("learn", "--resume", done), "records.jsonl", "generations")


def test_generate_draws_an_ordinary_prompt(tiny_folder: Path) -> None:
    result = evoken("generate", "a cat", "--model", tiny_folder / "model", "--steps", 2)
    assert result.exit_code == 0, result.output
    assert len(list(Path("pictures").glob("*.png"))) == 5


def test_reports_read_the_scores_of_older_previews(done: Path) -> None:
    files = sorted(done.glob("previews/*.json"))
    assert len(files) > 1 and "concept 0." in (done / "report.html").read_text()
    files[0].write_text('{"value": 0.5, "error": 0.1}')
    write_report(LearnRun.open(done))  # it went on with this version: scores of two kinds
    assert "CLIP" not in (done / "report.html").read_text()
    assert LearnRun.open(done).scores().keys() == {int(file.stem) for file in files[1:]}
    for file in files:
        file.write_text('{"value": 0.5, "error": 0.1}')
    write_report(LearnRun.open(done))
    text = (done / "report.html").read_text()
    assert "CLIP 0.500 [0.400, 0.600]" in text and "CLIP score of the previews" in text


def interrupt_after(generations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the first forward pass after some generations are on disk."""
    append, denoise = LearnRun.append, StableDiffusion.denoise
    seen: list[int] = []

    def counting(self: LearnRun, record: Any) -> None:
        append(self, record)
        seen.append(record.generation)

    def interrupted(self: StableDiffusion, *arguments: Any) -> torch.Tensor:
        begun = any(Path().rglob("config.json"))  # measuring the model beforehand takes calls too
        if begun and len(seen) == generations:
            seen.append(-1)  # once only
            os.kill(os.getpid(), signal.SIGINT)
        return denoise(self, *arguments)

    monkeypatch.setattr(LearnRun, "append", counting)
    monkeypatch.setattr(StableDiffusion, "denoise", interrupted)


PICTURES = ("--preview-every", 2, *ONE_SENTENCE)


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with pictures that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    photos, model = make_photos(folder / "disc"), tiny_folder / "model"
    how = ("--model", model, "--clip", tiny_folder / "clip", *QUICK, *PICTURES)
    assert evoken("learn", photos, *how, "--output", folder / "run").exit_code == 0
    return folder / "run"


@pytest.mark.parametrize("generations", [0, 1, 3, 5])
def test_ctrl_c_loses_nothing_and_resume_ends_where_the_run_would_have(
    learn: Callable[..., Result], whole: Path, monkeypatch: pytest.MonkeyPatch, generations: int
) -> None:
    interrupt_after(generations, monkeypatch)
    result = learn(*PICTURES, "--output", "cut")
    assert result.exit_code == 130
    assert "evoken learn --resume cut" in result.stderr
    assert len(LearnRun.open(Path("cut")).records()) == generations
    result = evoken("learn", "--resume", "cut")
    assert result.exit_code == 0, result.output
    names = [p.relative_to(whole) for p in sorted(whole.glob("*/*.png"))]
    assert {p.parts[0] for p in names} == {"inputs", "previews", "samples"}
    for name in (*names, Path("learned_embeds.safetensors")):
        assert (Path("cut") / name).read_bytes() == (whole / name).read_bytes()


def test_a_record_that_a_crash_cut_off_is_done_again(done: Path) -> None:
    expected = (done / "learned_embeds.safetensors").read_bytes()
    records = done / "records.jsonl"
    records.write_text(records.read_text()[:-40])
    (done / "learned_embeds.safetensors").unlink()
    assert evoken("learn", "--resume", done).exit_code == 0
    assert (done / "learned_embeds.safetensors").read_bytes() == expected


def test_resuming_a_finished_run_changes_nothing(finished: Path) -> None:
    before = files(finished)
    assert evoken("learn", "--resume", finished).exit_code == 0
    assert files(finished) == before


def test_the_run_does_not_need_the_images_any_more(
    learn: Callable[..., Result], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(2, monkeypatch)
    assert learn().exit_code == 130
    shutil.rmtree(photos)
    assert evoken("learn", "--resume", "runs/disc").exit_code == 0


def test_a_run_that_is_there_is_not_overwritten(learn: Callable[..., Result], done: Path) -> None:
    before = files(done)
    refused(learn(), "runs/disc", "--resume")
    assert files(done) == before


def test_the_second_objective_learns(tiny_folder: Path, photos: Path) -> None:
    model = ("--model", tiny_folder / "model", "--clip", tiny_folder / "clip")
    how = ("--objective", "similarity", "--popsize", "5", "--calls", "800", "--samples", 0)
    refused(evoken("learn", photos, *model, *how), "sep-cma")
    result = evoken("learn", photos, *model, *how, "--search", "random")
    assert result.exit_code == 0, result.output


def test_progress_says_what_how_far_how_good_how_long(learn: Callable[..., Result]) -> None:
    output = learn("--preview-every", 1).output
    for word in ("generation 4 of 4", "calls/s", "best loss", "sigma", "s left", "concept"):
        assert word in output
    assert workflow.PREVIEWS == 4
