"""Every family from the command line: learn, generate, evaluate; and invert and edit where a model
is a flow.
"""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from evoken.errors import ModelError
from evoken.images import load_images
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.job import learn_into
from evoken.textual_inversion.learn import learn as learn_word
from evoken.textual_inversion.settings import preset
from tests import ldm, mmdit, tiny
from tests.commands import evoken, refused
from tests.conftest import make_photos

SMALL = (
    "--popsize",
    "5",
    "--draws",
    "4",
    "--validation-draws",
    "8",
    "--calls",
    "80",
    "--samples",
    "0",
)
FEW = ("--count", 1, "--steps", 2)
# Families, what is asked for, the encoders that a word then lives in, and its width.
CASES = [
    ("second", "", "clip_l", 16),
    ("xl", "", "clip_l,clip_g", 16 + 24),
    ("flow", "", "clip_l,clip_g", 16 + 16),
    ("flux", "clip_l,t5xxl", "clip_l,t5xxl", 16 + 20),
    ("klein-base", "", "qwen3_4b", 16),
    ("flux-2-dev", "", "mistral3_24b", 16),
    ("z-image", "", "qwen3_4b", 16),
    ("qwen-image", "", "qwen25_7b", 16),
    ("sana", "", "gemma2_2b", 16),
    ("lumina-2", "", "gemma2_2b", 16),
    ("chroma", "", "t5xxl", 20),
]
FLOWS = ("flow", "schnell", "klein", "z-image-turbo", *(name for name, *_ in CASES[4:]))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "disc")


def done(*arguments: object) -> str:
    result = evoken(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def learn(tiny_folder: Path, family: str, encoders: str) -> LearnRun:
    more = ("--encoders", encoders) if encoders else ()
    done(
        "learn",
        "disc",
        "--model",
        tiny_folder / family,
        "--clip",
        tiny_folder / "clip",
        "--size",
        16,
        *SMALL,
        *more,
    )
    return LearnRun.open(Path("runs/disc"))


@pytest.mark.parametrize(("family", "asked", "encoders", "width"), CASES)
def test_a_word_is_learned_drawn_measured_and_found_again(
    tiny_folder: Path, family: str, asked: str, encoders: str, width: int
) -> None:
    run = learn(tiny_folder, family, asked)
    assert run.config["model"]["encoders"] == encoders
    assert run.config["model"]["size"] == 16
    assert run.word().vectors.shape == (1, width)
    with safe_open("runs/disc/learned_embeds.safetensors", "pt") as word:
        names = encoders.split(",")
        assert set(word.keys()) == ({"<disc>"} if names == ["clip_l"] else set(names))
    # Only of the first two generations does diffusers load a word from its folder.
    report = Path("runs/disc/report.html").read_text()
    assert ("load_textual_inversion" in report) == (family == "second")
    done("generate", "a <disc> on the beach", "--word", "runs/disc", *FEW)
    with Image.open("pictures/a-disc-on-the-beach-0-00.png") as picture:
        assert picture.size == (16, 16)
    assert "gain over no word" in done("evaluate", "runs/disc", "--count", 2)
    assert "4 pictures, by" in done("retrieve", "runs/disc", "disc", "--count", 2)


@pytest.mark.parametrize("family", FLOWS)
def test_a_picture_is_inverted_and_edited(tiny_folder: Path, family: str) -> None:
    model = ("--model", tiny_folder / family, "--size", 16, "--steps", 4, "--iterations", 2)
    done("invert", "disc/0.png", "--prompt", "a cat", *model, "--output", "runs/inverted")
    done(
        "edit",
        "disc/0.png",
        "--from",
        "a cat",
        "--to",
        "a house",
        *model,
        "--clip",
        tiny_folder / "clip",
        "--output",
        "runs/edited",
    )
    assert "Picked" in done("pick", "runs/edited")


@pytest.mark.parametrize(
    ("family", "base", "other"),
    [
        ("schnell", "black-forest-labs/FLUX.1-dev", "flux"),
        ("klein", "black-forest-labs/FLUX.2-klein-base-4B", "klein-base"),
        ("z-image-turbo", "Tongyi-MAI/Z-Image", "z-image"),
    ],
)
def test_a_distilled_model_draws_words_and_learns_none(
    tiny_folder: Path, family: str, base: str, other: str
) -> None:
    given = ("--clip", tiny_folder / "clip", "--size", 16, *SMALL)
    result = evoken("learn", "disc", "--model", tiny_folder / family, *given)
    refused(result, f"{family}' is distilled", f"Learn the word on {base}")
    assert not Path("runs").exists()
    loaded = load_model(ModelSpec(str(tiny_folder / family), size=16))
    settings = preset("default", placeholder="<disc>", initialization="random")
    with pytest.raises(ModelError, match="is distilled"):
        learn_into("runs/disc", "disc", settings, loaded)
    with pytest.raises(ModelError, match="is distilled"):
        next(learn_word(settings, loaded, load_images("disc", 16).images))
    # Called by another name, it is known by what its files say; what undoes it is none.
    undone = {"schnell": "OpenFLUX", "z-image-turbo": "De-Turbo"}.get(family, "some")
    for name in ("another", undone, f"me@host/{undone}"):
        ends = 0 if name.endswith(("OpenFLUX", "De-Turbo")) else 2
        shutil.copytree(tiny_folder / family, name)
        assert evoken("learn", "disc", "--model", name, *given, "--dry-run").exit_code == ends
    learn(tiny_folder, other, "")
    model = ("--model", tiny_folder / family, "--size", 16)
    done("generate", "a <disc> on the beach", "--word", "runs/disc", *FEW, *model)
    assert Path("pictures/a-disc-on-the-beach-0-00.png").exists()


def test_a_word_of_flux_edits(tiny_folder: Path) -> None:
    learn(tiny_folder, "flux", "clip_l,t5xxl")
    # The word's file says which encoders it is for.
    model = ("--model", tiny_folder / "flux", "--size", 16)
    word = ("--word", "runs/disc/learned_embeds.safetensors")
    for name, encoders in (
        ("file", ()),
        ("both", ("--encoders", "clip_l,t5xxl")),
        ("one", ("--encoders", "clip_l")),
    ):
        done("generate", "a <disc>", *word, *FEW, *model, *encoders, "--output", name)
    file, both, one = (Path(n, "a-disc-0-00.png").read_bytes() for n in ("file", "both", "one"))
    assert file == both != one
    few = ("--steps", 4, "--iterations", 2)
    done("invert", "disc/0.png", "--prompt", "a cat", *model, *few, "--output", "runs/inverted")
    # Model, size and encoders are those of the word's run.
    said = done(
        "edit",
        "disc/0.png",
        "--from",
        "a cat",
        "--to",
        "a <disc>",
        "--word",
        "runs/disc",
        *few,
        "--clip",
        tiny_folder / "clip",
        "--guidance",
        3,
        "--output",
        "runs/edited",
    )
    assert "Taking the model that the word was learned on: flux." in said
    lines = Path("runs/edited/records.jsonl").read_text().splitlines()
    calls = [json.loads(line)["calls"] for line in lines]
    # Every update runs all 4 steps, the preset's share of them: one call each, guided or not.
    assert [calls[1] - calls[0], calls[2] - calls[1]] == [4, 4]


@pytest.mark.parametrize("family", ["model", "flow"])
def test_a_single_file_draws_as_its_folder(family: str, tiny_folder: Path) -> None:
    """Whole, and with no more than the denoiser."""
    one, folder = Path("one.safetensors"), tiny_folder / family
    whole = family == "model"
    file = ldm.save(tiny.pipeline(), one) if whole else mmdit.save(tiny.flow_pipeline(), one)
    done("generate", "a cat", "--model", file, "--model-config", folder, *FEW)
    done("generate", "a cat", "--model", folder, *FEW, "--output", "folder")
    found, expected = (Path(p) / "a-cat-0-00.png" for p in ("pictures", "folder"))
    assert found.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--model", "./one.ckpt"), "nothing is ever unpickled"),
        (("--encoders", "clip_h"), "--encoders must be among clip_l"),
        (("--size", "-16"), "--size"),
        (("--size", "17"), "--size must be a multiple of"),
    ],
)
def test_bad_input_is_one_clear_sentence(
    tiny_folder: Path, arguments: tuple[str, ...], word: str
) -> None:
    Path("one.ckpt").write_bytes(b"not read")
    result = evoken("generate", "a cat", "--model", tiny_folder / "model", *arguments)
    refused(result, word)
