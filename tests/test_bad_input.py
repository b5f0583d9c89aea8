"""Every kind of bad input: one clear sentence, exit code 2, and nothing lost."""

import io
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from PIL import Image
from typer.testing import Result

from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.textual_inversion.folder import LearnRun
from tests.commands import evoken, files, refused

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [("a.jpg", b"text", "is not an image"), ("b.png", b"", "is not an image")],
)
def test_a_bad_image_is_named_and_nothing_is_started(
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
    (photos / "notes.docx").write_text("text")
    (photos / "0.txt").write_text("a caption")
    result = learn()
    assert result.exit_code == 0, result.output
    assert "Note: 1 picture;" in result.output
    assert "Skipped 'notes.docx': not images by their names." in result.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--word", "disc"), "--word must be like <teapot>"),
        (("--word", "<a b>"), "--word must be like <teapot>"),
        (("--calls", "0"), "--calls must be from 1 to 1,000,000,000 (got 0)."),
        (("--calls", "20"), "budget"),
        (("--minutes", "-1"), "--minutes must be"),
        (("--sigma", "1e-5"), "--sigma must be from 0.0001 to 1,000"),
        (("--search", "luck"), "--search must be one of"),
        (("--preset", "fast"), "--preset must be one of"),
        (("--axes", "99999"), "--axes must be from"),
        (("--start", "cat dog house"), "tokens"),
        (("--precision", "int3"), "--precision must be one of"),
        (("--batch", "-1"), "--batch must be"),
        (("--mistake", "x"), "--mistake must be one of"),
        (("--objective", "similarity", "--search", "cma"), "Leave out --draws."),
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
        ("config.json", without("model"), "runs/disc/config.json is damaged"),
        ("config.json", without("settings"), "runs/disc/config.json is damaged"),
        ("config.json", without("clip"), "runs/disc/config.json is damaged"),
        ("config.json", lambda c: c | {"model": {"name": "stickers", "wings": 2}}, "wings"),
        (
            "config.json",
            lambda c: c | {"weights": "0" * 64},
            "config.json was changed after the run began",
        ),
        ("inputs.json", lambda names: 5, "runs/disc/inputs.json is damaged"),
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
    refused(result, "could not write", "unchanged")
    folder = Path("runs/disc")
    assert LearnRun.open(folder).records()
    assert not list(folder.rglob(".*"))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_at_the_start_leaves_nothing_in_the_way(
    learn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Image.effect_noise((200, 200), 90).convert("RGB")
    monkeypatch.setattr("evoken.run_folder.to_pictures", lambda images: [noise])  # 100 kB as PNG
    refused(learn(), "could not write")
    assert not list(Path("runs").iterdir())


def test_a_folder_that_cannot_be_written(learn: Callable[..., Result]) -> None:
    Path("file").write_text("in the way")
    refused(learn("--output", "file/run"), "file/run")
    refused(learn("--output", "/proc/run"), "/proc/run")


def test_losses_that_become_no_numbers_keep_what_was_learned(
    learn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise, append = StableDiffusion.denoise, LearnRun.append
    factor = [1.0]

    def broken_from_now_on(self: LearnRun, record: Any) -> None:
        append(self, record)
        factor[0] = float("nan") if record.generation == 2 else 1.0

    monkeypatch.setattr(LearnRun, "append", broken_from_now_on)
    monkeypatch.setattr(StableDiffusion, "denoise", lambda *a: denoise(*a) * factor[0])
    refused(learn(), "finite")
    assert len(LearnRun.open(Path("runs/disc")).records()) == 3


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
            frames = [gradient(40).rotate(turn).convert("P") for turn in (0, 90)]
            frames[0].save(file.with_suffix(".gif"), save_all=True, append_images=frames[1:])
        elif name == "I;16":
            levels = np.asarray(gradient(40)).astype(np.uint16) * 257
            Image.fromarray(levels).save(file.with_suffix(".png"))
        elif name == "portrait":  # as phones take it: lying, with a note to turn it
            lying = Image.effect_noise((160, 120), 50).convert("RGB")
            exif = Image.Exif()
            exif[0x0112] = 6
            lying.save(file.with_suffix(".jpg"), exif=exif)
        else:
            end = ".jpg" if name == "CMYK" else ".png"
            gradient(40).convert(name).save(file.with_suffix(end))


def gradient(side: int) -> Image.Image:
    return Image.linear_gradient("L").resize((side, side))


@pytest.mark.parametrize(
    ("name", "word"), [("truncated", "damaged"), ("tiny", "1 x 1"), ("huge", "megapixels")]
)
def test_bad_pictures_are_one_clear_sentence(
    learn: Callable[..., Result], photos: Path, name: str, word: str
) -> None:
    write_pictures(photos, name)
    refused(learn(), "odd0", word)
    assert not Path("runs").exists()


@pytest.mark.parametrize("existing", [False, True])
def test_pictures_of_one_colour_teach_nothing(
    learn: Callable[..., Result], photos: Path, existing: bool
) -> None:
    """An old run in the way does not hide it."""
    if existing:
        Path("runs/disc").mkdir(parents=True)
        Path("runs/disc/old").write_text("old")
    white, jpeg = photos / "a.png", photos / "b.jpg"
    Image.new("RGB", (40, 30), "white").save(white)
    Image.new("RGB", (33, 47), (200, 30, 7)).save(jpeg)
    refused(learn(), "one colour", "'a.png' and 'b.jpg'")
    assert Path("runs").exists() == existing
    if existing:
        white.unlink()
        jpeg.unlink()
        refused(learn(), "runs/disc already exists")
        assert list(files(Path("runs"))) == ["runs/disc/old"]


def test_pictures_are_checked_before_the_model(learn: Callable[..., Result], photos: Path) -> None:
    (photos / "4.png").write_bytes(b"no picture")
    refused(learn("--model", "nowhere"), "4.png is not an image")


def test_copies_and_large_cuts_are_told(learn: Callable[..., Result], photos: Path) -> None:
    (photos / "copy.png").write_bytes((photos / "1.png").read_bytes())
    (photos / "0.png").unlink()
    gradient(256).resize((100, 50)).save(photos / "wide.png")
    result = learn("--calls", 64, "--preview-every", 0)
    assert result.exit_code == 0, result.output
    assert "Note: '1.png' and 'copy.png' are the same picture." in result.output
    cut = "Note: pictures are cut to their middle square: 'wide.png' loses 50 % (left and right)."
    assert cut in result.output  # and nothing of the others, which lose a quarter


def test_the_layout_of_trainers_is_one_folder_down(
    learn: Callable[..., Result], photos: Path
) -> None:
    inner = photos / "10_sks disc"
    inner.mkdir()
    for file in sorted(photos.glob("*.png")):
        file.rename(inner / file.name)
        (inner / file.name).with_suffix(".txt").write_text("sks disc")
    result = learn("--calls", 64, "--preview-every", 0)
    assert result.exit_code == 0, result.output
    assert f"Taking the pictures from {inner}." in result.output and "Skipped" not in result.output
    assert len(LearnRun.open(Path("runs/disc")).inputs) == 4


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
    assert result.exit_code == 130 and "Nothing was started." in result.stderr
    assert not Path("other").exists()


def test_a_word_without_room_is_refused_before_anything_is_written(
    learn: Callable[..., Result],
) -> None:
    said = "100 --vectors are too many for the sentences that the word is learned in"
    refused(learn("--vectors", 100), said, "Lower --vectors.")
    assert not Path("runs").exists()
