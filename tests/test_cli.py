"""The command line in-process: what a user types, what they see, and every kind of bad input."""

import io
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner, Result

from evoken import workflow
from evoken.cli import app
from evoken.cli_common import load_word_and_spec, spec_of
from evoken.models.stable_diffusion import StableDiffusion
from evoken.report import write_card
from evoken.run import Run, held
from evoken.textual_inversion.embedding import Word, save_word
from evoken.textual_inversion.formats import FLUX, SD3, SDXL, Base
from tests.conftest import make_photos

SMALL = ("--popsize", "5", "--draws", "4", "--validation-draws", "8", "--calls", "128")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evoken(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def learn(tiny_folder: Path, photos: Path) -> Callable[..., Result]:
    """``evoken learn`` on the small model; arguments are appended."""

    def run(*arguments: object, images: Path | None = photos) -> Result:
        model = ("--model", tiny_folder / "model", "--clip", tiny_folder / "clip", *SMALL)
        where = () if images is None else (images,)
        return evoken("learn", *where, *model, *arguments)

    return run


@pytest.fixture(scope="session")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made once."""
    folder = tmp_path_factory.mktemp("finished")
    make_photos(folder / "disc")
    result = evoken(
        "learn", folder / "disc", "--model", tiny_folder / "model", "--clip", tiny_folder / "clip",
        *SMALL, "--output", folder / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture
def done(finished: Path) -> Path:
    """A finished run of one's own, at the place where ``learn`` would put it."""
    return Path(shutil.copytree(finished, "runs/disc"))


def refused(result: Result, *words: str) -> None:
    """One clear sentence, exit code 2, no traceback."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: expected ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_learning_leaves_a_whole_run_folder(done: Path) -> None:
    names = {str(p.relative_to(done)) for p in done.rglob("*") if p.is_file()}
    assert {
        "config.json", "inputs.json", "records.jsonl", "learned_embeds.safetensors",
        "README.md", "report.html", "previews/0000.png", "inputs/00.png",
        "samples/00-before.png", "samples/00-after.png",
    } <= names  # fmt: skip
    report = (done / "report.html").read_text()
    assert "&lt;disc&gt;" in report and "on the beach" in report
    assert report.count("data:image/png;base64,") >= 4 + 2 * 9 + 2
    assert "http://" not in report and "https://" not in report
    assert json.loads((done / "config.json").read_text())["settings"]["placeholder"] == "<disc>"


def test_the_word_tells_what_it_was_learned_with(done: Path) -> None:
    with safe_open(done / "learned_embeds.safetensors", "pt") as word:
        about = json.loads(word.metadata()["evoken"])
    run = Run.open(done)
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
    assert f'evoken generate "a cat in the style of <ink>" {shown}' in card


def test_the_report_names_the_generation_that_gave_the_word(learn: Callable[..., Result]) -> None:
    how = ("--search", "cma", "--mistake", "last-best", "--calls", 200)
    assert learn(*how).exit_code == 0
    last = Run.open(Path("runs/disc")).records()[-1].generation
    assert (
        f"at generation\n{last}, which is the result" in Path("runs/disc/report.html").read_text()
    )


def test_the_word_is_one_that_diffusers_loads(done: Path, tiny_folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder / "model")
    pipe.load_textual_inversion(str(done))
    token = pipe.tokenizer.convert_tokens_to_ids("<disc>")
    loaded = pipe.text_encoder.get_input_embeddings().weight[token]
    assert torch.equal(loaded, Run.open(done).word().vectors[0])


def test_the_cards_code_works_as_it_stands(done: Path) -> None:
    code, _, _ = (done / "README.md").read_text().split("```python\n")[1].partition("```")
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
    write_card(Run.open(done))
    card = (done / "README.md").read_text()
    assert "base_model: some/model" in card
    assert ("```python" in card) == bool(lines)
    for line in lines:
        assert line in card


def test_a_word_s_file_says_what_it_is_for(done: Path) -> None:
    with safe_open(done / "learned_embeds.safetensors", "pt") as word:
        header = word.metadata()
    assert header["modelspec.trigger_phrase"] == "<disc>"
    assert header["base_model"] == Run.open(done).spec.name
    assert "base_model" not in (done / "README.md").read_text()  # a folder is no repository


def test_resume_takes_nothing_that_it_would_pass_over(done: Path) -> None:
    refused(evoken("learn", "--resume", done, "--calls", 90), "--resume alone", "--calls")
    refused(evoken("learn", done, "--resume", done, "--device", "cpu"), "images, --device")
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


def test_a_run_says_how_its_word_is_computed(done: Path) -> None:
    _, spec = load_word_and_spec(done)
    assert spec is not None
    odd = replace(spec, precision="bfloat16", runtime="torch-int8", device="meta")
    nothing = {"name": "", "precision": "", "device": "", "runtime": ""}
    assert spec_of(None, odd, "stickers", nothing) == odd
    assert spec_of(None, odd, "stickers", nothing | {"device": "cpu"}).device == "cpu"


def test_two_processes_never_work_on_one_run(done: Path) -> None:
    (done / "records.jsonl").write_text("")
    with held(done):
        refused(evoken("learn", "--resume", done), "another process")
    assert evoken("learn", "--resume", done).exit_code == 0


def test_a_run_of_two_writers_is_no_run(done: Path) -> None:
    lines = (done / "records.jsonl").read_text()
    (done / "records.jsonl").write_text(lines + lines)
    refused(evoken("learn", "--resume", done), "records.jsonl", "generations")


def test_evaluate_knows_what_the_judge_knows(done: Path) -> None:
    refused(evoken("evaluate", done, "--concept", "teapod"), "teapod")  # no sticker model


def test_generate_draws_an_ordinary_prompt(tiny_folder: Path) -> None:
    result = evoken("generate", "a cat", "--model", tiny_folder / "model", "--steps", 2)
    assert result.exit_code == 0, result.output
    assert len(list(Path("pictures").glob("*.png"))) == 5


def test_evaluate_prints_the_papers_scores(done: Path) -> None:
    result = evoken("evaluate", done, "--count", 3)
    assert result.exit_code == 0, result.output
    assert "reconstruction" in result.output and "editability" in result.output
    scores = json.loads((done / "scores.json").read_text())
    assert scores["count"] == 3 and len(scores["start_and_learned"]["reconstruction"]) == 2


def interrupt_after(generations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the first forward pass after some generations are on disk."""
    append, denoise = Run.append, StableDiffusion.denoise
    seen: list[int] = []

    def counting(self: Run, record: Any) -> None:
        append(self, record)
        seen.append(record.generation)

    def interrupted(self: StableDiffusion, *arguments: Any) -> torch.Tensor:
        begun = any(Path().rglob("config.json"))  # measuring the model beforehand takes calls too
        if begun and len(seen) == generations:
            seen.append(-1)  # once only
            os.kill(os.getpid(), signal.SIGINT)
        return denoise(self, *arguments)

    monkeypatch.setattr(Run, "append", counting)
    monkeypatch.setattr(StableDiffusion, "denoise", interrupted)


@pytest.mark.parametrize("generations", [0, 1, 3, 5])
def test_ctrl_c_loses_nothing_and_resume_ends_where_the_run_would_have(
    learn: Callable[..., Result], finished: Path, monkeypatch: pytest.MonkeyPatch, generations: int
) -> None:
    interrupt_after(generations, monkeypatch)
    result = learn("--output", "cut")
    assert result.exit_code == 130
    assert "evoken learn --resume cut" in result.stderr
    assert len(Run.open(Path("cut")).records()) == generations
    result = evoken("learn", "--resume", "cut")
    assert result.exit_code == 0, result.output
    for name in ("learned_embeds.safetensors", "samples/00-after.png", "previews/0000.png"):
        assert (Path("cut") / name).read_bytes() == (finished / name).read_bytes()


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


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [("a.jpg", b"text", "something else"), ("b.png", b"", "something else")],
)
def test_a_bad_image_is_named_and_nothing_is_begun(
    learn: Callable[..., Result], photos: Path, name: str, content: bytes, word: str
) -> None:
    (photos / name).write_bytes(content)
    refused(learn(), name, word)
    assert not Path("runs").exists()


def test_no_images(learn: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(learn(images=tmp_path / "empty"), "empty folder")
    refused(learn(images=tmp_path / "missing"), "does not exist")
    refused(learn(images=None), "evoken learn FOLDER")


def test_one_image_is_learned_with_a_note(learn: Callable[..., Result], photos: Path) -> None:
    for path in sorted(photos.iterdir())[1:]:
        path.unlink()
    (photos / "notes.txt").write_text("text")
    result = learn()
    assert result.exit_code == 0, result.output
    assert "1 image(s)" in result.output and "notes.txt" in result.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--word", "disc"), "placeholder"),
        (("--word", "<a b>"), "placeholder"),
        (("--calls", "0"), "calls"),
        (("--calls", "20"), "budget"),
        (("--minutes", "-1"), "minutes"),
        (("--sigma", "0"), "sigma"),
        (("--search", "luck"), "search"),
        (("--preset", "fast"), "preset"),
        (("--axes", "99999"), "axes"),
        (("--start", "cat dog house"), "tokens"),
        (("--precision", "int3"), "precision"),
        (("--batch", "-1"), "batch"),
        (("--mistake", "x"), "mistake"),
        (("--objective", "similarity", "--search", "cma"), "Leave --draws out"),
        (("--model", "no/such/model/here"), "no/such/model/here"),
        (("--clip", "./nowhere"), "nowhere"),
    ],
)
def test_bad_settings_are_one_clear_sentence(
    learn: Callable[..., Result], arguments: tuple[str, ...], word: str
) -> None:
    refused(learn(*arguments), word)
    assert not Path("runs").exists()


def test_a_folder_that_is_no_run(photos: Path) -> None:
    for command in (("evaluate", photos), ("learn", "--resume", photos)):
        refused(evoken(*command), "run folder")
    refused(evoken("generate", "a <disc>", "--word", photos), "evoken learn")


def test_a_run_of_another_version(done: Path) -> None:
    config = json.loads((done / "config.json").read_text())
    (done / "config.json").write_text(json.dumps(config | {"format": 99, "evoken": "9.0"}))
    before = files(done)
    refused(evoken("learn", "--resume", done), "9.0", "format 99")
    refused(evoken("evaluate", done), "9.0")
    assert files(done) == before


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda config: {k: v for k, v in config.items() if k != key}


@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        ("config.json", without("model"), "damage in runs/disc/config.json"),
        ("config.json", without("settings"), "damage in runs/disc/config.json"),
        ("config.json", without("clip"), "damage in runs/disc/config.json"),
        ("config.json", lambda c: c | {"model": {"name": "stickers", "wings": 2}}, "wings"),
        ("config.json", lambda c: c | {"weights": "0" * 64}, "other weights"),
        ("inputs.json", lambda names: 5, "damage in runs/disc/inputs.json"),
    ],
)
def test_a_run_that_is_not_as_it_was_written(
    done: Path, file: str, change: Callable[[Any], Any], word: str
) -> None:
    content = change(json.loads((done / file).read_text()))
    (done / file).write_text(json.dumps(content))
    refused(evoken("learn", "--resume", done), word)
    (done / file).unlink()
    refused(evoken("learn", "--resume", done))


def test_a_damaged_config_or_record(done: Path) -> None:
    records = (done / "records.jsonl").read_text()
    (done / "records.jsonl").write_text("{}\n" + records)
    refused(evoken("learn", "--resume", done), "records.jsonl")
    (done / "config.json").write_text("{")
    refused(evoken("evaluate", done), "config.json")


def test_a_word_that_does_not_fit(done: Path, tmp_path: Path) -> None:
    refused(evoken("generate", "a cat", "--word", done), "<disc>")
    (tmp_path / "w.safetensors").write_bytes(b"no safetensors")
    refused(evoken("generate", "a <disc>", "--word", tmp_path / "w.safetensors"), "safetensors")


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 20 kB: what a full disk does to a program, for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_keeps_what_is_there(learn: Callable[..., Result]) -> None:
    result = learn("--calls", "2000")
    refused(result, "to write", "unchanged")
    folder = Path("runs/disc")
    assert Run.open(folder).records()
    assert not list(folder.rglob(".*"))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_at_the_start_leaves_nothing_in_the_way(
    learn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Image.effect_noise((200, 200), 90).convert("RGB")
    monkeypatch.setattr("evoken.run.to_pictures", lambda images: [noise])  # 100 kB as PNG
    refused(learn(), "to write")
    assert not list(Path("runs").iterdir())


def test_a_folder_that_cannot_be_written(learn: Callable[..., Result]) -> None:
    Path("file").write_text("in the way")
    refused(learn("--output", "file/run"), "file/run")
    refused(learn("--output", "/proc/run"), "/proc/run")


def test_losses_that_become_no_numbers_keep_what_was_learned(
    learn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise, append = StableDiffusion.denoise, Run.append
    factor = [1.0]

    def broken_from_now_on(self: Run, record: Any) -> None:
        append(self, record)
        factor[0] = float("nan") if record.generation == 2 else 1.0

    monkeypatch.setattr(Run, "append", broken_from_now_on)
    monkeypatch.setattr(StableDiffusion, "denoise", lambda *a: denoise(*a) * factor[0])
    refused(learn(), "finite")
    assert len(Run.open(Path("runs/disc")).records()) == 3


def test_losses_that_are_not_numbers(
    learn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise = StableDiffusion.denoise
    monkeypatch.setattr(StableDiffusion, "denoise", lambda *a: denoise(*a) * float("nan"))
    refused(learn(), "finite", "float32")


def write_pictures(folder: Path, name: str) -> None:
    """Bad or odd pictures as a user may have them, five of a kind."""
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole, "JPEG")
    for i in range(3):
        file = folder / f"odd{i}"
        if name == "truncated":
            file.with_suffix(".jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        elif name == "tiny":
            Image.new("RGB", (1, 1)).save(file.with_suffix(".png"))
        elif name == "huge":
            Image.new("1", (20_000, 20_000)).save(file.with_suffix(".png"))
        elif name == "animated":
            frames = [Image.new("P", (40, 40), c) for c in (3, 7)]
            frames[0].save(file.with_suffix(".gif"), save_all=True, append_images=frames[1:])
        elif name == "I;16":
            Image.new("I;16", (40, 40), 30_000).save(file.with_suffix(".png"))
        elif name == "portrait":  # as phones take it: lying, with a note to turn it
            lying = Image.effect_noise((160, 120), 50).convert("RGB")
            exif = Image.Exif()
            exif[0x0112] = 6
            lying.save(file.with_suffix(".jpg"), exif=exif)
        else:
            end = ".jpg" if name == "CMYK" else ".png"
            Image.new(name, (40, 40)).save(file.with_suffix(end))


@pytest.mark.parametrize(
    ("name", "word"), [("truncated", "damaged"), ("tiny", "1 x 1"), ("huge", "megapixels")]
)
def test_bad_pictures_are_one_clear_sentence(
    learn: Callable[..., Result], photos: Path, name: str, word: str
) -> None:
    write_pictures(photos, name)
    refused(learn(), "odd0", word)
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["CMYK", "P", "RGBA", "LA", "I;16", "animated", "portrait"])
def test_odd_pictures_are_learned_from(
    learn: Callable[..., Result], photos: Path, name: str
) -> None:
    for path in photos.iterdir():
        path.unlink()
    write_pictures(photos, name)
    result = learn("--calls", 64, "--preview-every", 0)
    assert result.exit_code == 0, result.output


def test_a_placeholder_of_the_vocabulary(learn: Callable[..., Result], tiny_folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder / "model")
    pipe.tokenizer.add_tokens("<cat>")
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer))
    pipe.save_pretrained("more")
    refused(learn("--word", "<cat>", "--model", "more"), "<cat>", "vocabulary")


def test_ctrl_c_while_a_model_loads_or_draws(
    learn: Callable[..., Result], done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(done)

    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StableDiffusion, "decode", interrupted)
    for command in (("generate", "a <disc>", "--word", done), ("evaluate", done, "--count", 2)):
        result = evoken(*command)
        assert result.exit_code == 130 and result.stderr == "\nInterrupted.\n"
    assert files(done) == before and not Path("pictures").exists()
    monkeypatch.setattr(StableDiffusion, "encode", interrupted)
    result = learn("--output", "other")
    assert result.exit_code == 130 and "Nothing was begun." in result.stderr
    assert not Path("other").exists()


def test_the_second_objective_learns(tiny_folder: Path, photos: Path) -> None:
    model = ("--model", tiny_folder / "model", "--clip", tiny_folder / "clip")
    how = ("--objective", "similarity", "--popsize", "5", "--calls", "800")
    refused(evoken("learn", photos, *model, *how), "sep-cma")
    result = evoken("learn", photos, *model, *how, "--search", "random")
    assert result.exit_code == 0, result.output


def test_progress_says_what_how_far_how_good_how_long(learn: Callable[..., Result]) -> None:
    output = learn("--preview-every", 1).output
    for word in ("generation 4 of 4", "calls/s", "best loss", "sigma", "s left", "CLIP"):
        assert word in output
    assert workflow.PREVIEWS == 4
