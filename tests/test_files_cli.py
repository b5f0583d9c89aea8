"""evoken convert, inspect and retrieve: in-process, on small models and on the sticker CLIP."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from evoken.images import load_images
from evoken.models.clip import Clip
from evoken.models.embedded import EMBEDDED
from evoken.models.load import default_clip, load_clip, load_model
from evoken.pictures.drawing import draw
from evoken.spec import ModelSpec
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.retrieval import rank, word_feature
from evoken.textual_inversion.settings import preset
from evoken.words.files import read_embedding
from evoken.words.word import Word, nearest_words
from tests import ldm, tiny
from tests.commands import evoken, refused
from tests.words import embedding, save, vectors

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def learned(tiny_folder: Path, photos: Path) -> Callable[..., LearnRun]:
    """The folder of a run on a model, with the word's start for a word."""

    def make(name: str, encoders: str = "") -> LearnRun:
        path = name if name in EMBEDDED else str(tiny_folder / name)
        spec = ModelSpec(path, encoders=encoders)
        model = load_model(spec)
        settings = preset("default", placeholder="<disc>")
        clip = default_clip(name) if name in EMBEDDED else str(tiny_folder / "clip")
        run = LearnRun.create(Path("run"), settings, model, clip, load_images(photos, model.size))
        known = {"best_generation": 0, "best_validation": 1.0, "calls": 0}
        word = Word("<disc>", model.embed("dog"), model.encoders)
        run.save_word(SimpleNamespace(model=model, word=word, **known))
        return run

    return make


# A run's word in its own file, by encoder where there are several.


@pytest.mark.parametrize(
    ("name", "encoders"),
    [
        ("model", ["clip_l"]),
        ("flow", ["clip_l", "clip_g"]),
        ("stickers-flow", ["clip_l", "clip_g"]),
    ],
)
def test_a_run_s_word_is_kept_by_encoder_and_drawn_from_its_file(
    learned: Callable[[str], LearnRun], name: str, encoders: list[str]
) -> None:
    run = learned(name)
    found = read_embedding(run.path)
    assert list(found.vectors) == encoders and found.placeholder == "<disc>"
    assert found.about.get("architecture") == (None if name == "model" else "stable-diffusion-3")
    model = load_model(run.spec)
    assert torch.equal(run.word().vectors, model.embed("dog"))
    result = evoken(
        "generate",
        "a <disc>",
        "--word",
        "run/learned_embeds.safetensors",
        "--model",
        run.spec.name,
        "--count",
        1,
        "--steps",
        1,
    )
    assert result.exit_code == 0, result.output


# convert


def test_convert_writes_what_it_says(learned: Callable[[str], LearnRun]) -> None:
    learned("model")
    result = evoken("convert", "run", "--to", "diffusers")
    assert result.exit_code == 0, result.output
    assert "load_textual_inversion('embeddings/disc')" in result.output
    assert torch.equal(
        read_embedding(Path("embeddings/disc")).vectors["clip_l"],
        read_embedding(Path("run")).vectors["clip_l"],
    )
    result = evoken("convert", "run", "--to", "a1111")
    assert result.exit_code == 0 and "no model of this width (clip_l 16)" in result.output
    assert "a model of widths that other programs do not know" in result.output


@pytest.mark.parametrize("tool", ["a1111", "forge", "comfyui", "invokeai", "pt"])
def test_convert_says_the_trigger_and_overwrites_nothing(tool: str) -> None:
    word = embedding("SD1")
    Path("cat.safetensors").write_bytes(save({"<my cat>": word.vectors["clip_l"]}))
    given = ("convert", "cat.safetensors", "--to", tool, "--output", "out")
    result = evoken(*given)
    assert (
        result.exit_code == 0
        and "my-cat" in result.output
        and "Stable Diffusion 1.x" in result.output
    )
    (path,) = Path("out").iterdir()
    path.write_bytes(b"mine")
    refused(evoken(*given), "--force")
    assert evoken(*given, "--force").exit_code == 0
    assert torch.equal(read_embedding(path).vectors["clip_l"], word.vectors["clip_l"])


def test_what_convert_refuses(tmp_path: Path) -> None:
    Path("sd3.safetensors").write_bytes(
        save(dict(embedding("SD3").vectors), {"modelspec.architecture": "stable-diffusion-3-m"})
    )
    refused(
        evoken("convert", "sd3.safetensors", "--to", "invokeai"), "Stable Diffusion 3", "comfyui"
    )
    refused(evoken("convert", "sd3.safetensors", "--to", "photoshop"), "a1111")
    refused(evoken("convert", "none", "--to", "a1111"), "there is no run folder or embedding file")
    assert not Path("embeddings").exists()


# inspect


def test_inspect_tells_what_a_file_is() -> None:
    for model in EMBEDDED[:1]:
        word = load_model(ModelSpec(model)).embed("cat")
        header = {"evoken": json.dumps({"model": model, "placeholder": "<tom>", "seed": "7"})}
        Path("x.safetensors").write_bytes(save({"emb_params": word}, header))
        result = evoken("inspect", "x.safetensors")
        assert result.exit_code == 0, result.output
        for text in ("<tom>", "emb_params", "1 x 256", f"norm {word.norm():.3f}", "cat 1.00", "7"):
            assert text in result.output


def test_inspect_names_the_base_and_hides_control_characters() -> None:
    header = {"modelspec.trigger_phrase": "a\x1b[31mcat", "thumbnail": "x" * 9999}
    Path("x.safetensors").write_bytes(save(dict(embedding("SDXL", 2).vectors), header))
    result = evoken("inspect", "x.safetensors")
    assert result.exit_code == 0, result.output
    assert (
        "Stable Diffusion XL or Stable Diffusion 3" in result.output and "--model" in result.output
    )
    assert "\x1b" not in result.output and "a?[31mcat" in result.output
    assert len(result.output) < 1000 and "2 x 1280" in result.output


def test_inspect_says_of_a_long_word_that_it_is_usual(tiny_folder: Path) -> None:
    model, told = ("--model", tiny_folder / "model"), "Long words are usual"
    for name, length in (("long", 100.0), ("short", 0.1)):
        word = length * torch.nn.functional.normalize(vectors(16), dim=1)
        Path(f"{name}.safetensors").write_bytes(save({"<a>": word}))
        result = evoken("inspect", f"{name}.safetensors", *model)
        assert result.exit_code == 0 and (told in result.output) == (name == "long")


@pytest.mark.parametrize("name", ["stickers", "x" * 5000, "a\0b", "no/such", ""])
def test_inspect_does_without_a_model_that_does_not_fit(name: str) -> None:
    header = {"evoken": json.dumps({"model": name})}
    Path("x.safetensors").write_bytes(save({"<a>": vectors(768)}, header))
    result = evoken("inspect", "x.safetensors")
    assert result.exit_code == 0, result.output
    assert ("no nearest words" if name == "stickers" else "Give --model") in result.output
    refused(
        evoken("inspect", "x.safetensors", "--model", "stickers"),
        "'stickers' needs a word of width 256",
    )


@pytest.mark.parametrize(
    ("name", "encoders"),
    [
        ("xl", "clip_l"),
        ("xl", "clip_g"),
        ("flux", "t5xxl"),
        ("stickers-flow", "clip_g"),
        ("flow", "clip_l,clip_g"),
    ],
)
def test_inspect_compares_with_the_words_of_the_word_s_own_encoders(
    learned: Callable[..., LearnRun], name: str, encoders: str
) -> None:
    run = learned(name, encoders)
    for given in ((), ("--model", run.spec.name)):
        result = evoken("inspect", "run", *given)
        assert result.exit_code == 0 and "1: dog 1.00" in result.output, result.output
        for encoder in encoders.split(","):
            assert f"\n{encoder:12} 1 x " in result.output
    result = evoken("inspect", "run", "--model", "stickers")
    other = encoders.split(",")[-1]
    width, names = "'stickers' needs a word of width 256", f"among clip_l (got '{other}')"
    refused(result, width if other == "clip_l" else names)


def test_inspect_takes_a_single_file(learned: Callable[..., LearnRun], tiny_folder: Path) -> None:
    learned("xl", "clip_g")
    file = ldm.save(tiny.xl_pipeline(), Path("one.safetensors"))
    given = ("inspect", "run", "--model", file, "--model-config", tiny_folder / "xl")
    result = evoken(*given)
    assert result.exit_code == 0 and "1: dog 1.00" in result.output, result.output


def test_words_of_some_encoders_are_named_as_such() -> None:
    header = {"modelspec.architecture": "stable-diffusion-xl-v1-base/textual-inversion"}
    for name, width in (("clip_l", 768), ("clip_g", 1280)):
        Path("x.safetensors").write_bytes(save({"<a>": vectors(width)}, header))
        alone = f"Stable Diffusion XL ({name} alone)"
        assert f"for          {alone}\n" in evoken("inspect", "x.safetensors").output
        for tool in ("a1111", "forge", "invokeai"):
            refused(
                evoken("convert", "x.safetensors", "--to", tool),
                f"only with clip_l + clip_g (got {name}).",
                "Use --to diffusers or comfyui",
                "evoken learn FOLDER --encoders clip_l,clip_g\n",
            )
        refused(evoken("convert", "x.safetensors", "--to", "pt"), alone, "comfyui")
        assert not Path("embeddings").exists()
        result = evoken("convert", "x.safetensors", "--to", "comfyui", "--output", name)
        assert result.exit_code == 0 and f"for {alone}: {name}/" in result.output
        assert f"Note: ComfyUI reads the word with {name} alone" in result.output


def test_inspect_refuses_what_is_no_word() -> None:
    Path("x.pt").write_bytes(b"no word")
    result = evoken("inspect", "x.pt")
    refused(result, "embedding file")
    assert "weights_only" not in result.stderr  # torch's advice to run what is in the file


def test_nearest_words_are_by_cosine() -> None:
    vocabulary = load_model().vocabulary()
    both = vocabulary.vectors[[3, 8]] * torch.tensor([[2.0], [0.1]])
    found = nearest_words(both, vocabulary, 3)
    assert [f[0][0] for f in found] == [vocabulary.words[3], vocabulary.words[8]]
    assert all(len(f) == 3 and f[0][1] == pytest.approx(1) for f in found)


# retrieve


@pytest.mark.parametrize("prompt", ["a photo of a {}", "{} on the beach", "a {} and a {}"])
def test_a_word_of_the_vocabulary_is_read_as_its_name(prompt: str) -> None:
    clip, model = load_clip(), load_model()
    word = Word("<w>", model.embed("dog"))
    found = word_feature(clip, prompt.replace("{}", "<w>"), word)
    plain = clip.text_features([prompt.replace("{}", "dog")])
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)


def test_the_order_is_that_of_the_cosines_whatever_stands_beside(
    clip: Clip, photos: Path, tmp_path: Path
) -> None:
    query = clip.text_features(["a photo of a cat"])
    whole = rank(clip, query, photos)
    images = load_images(photos, clip.side)
    cosines = (clip.image_features(images.images) @ query[0]).tolist()
    assert dict(whole.images) == pytest.approx(dict(zip(images.names, cosines, strict=True)))
    assert [c for _, c in whole.images] == sorted((c for _, c in whole.images), reverse=True)
    for name in ("1.png", "0.png", "3.png"):
        (photos / name).unlink()
        kept = dict(rank(clip, query, photos).images)
        expected = {name: cosine for name, cosine in whole.images if name in kept}
        assert kept == pytest.approx(expected) and list(kept) == list(expected)


@pytest.mark.parametrize(
    ("name", "how"),
    [  # whose text encoder is the CLIP's, is as wide as the CLIP's, and is another altogether
        ("stickers", "CLIP's reading"),
        ("model", "3 pictures drawn"),
        ("flow", "3 pictures drawn"),
    ],
)
def test_retrieve_ranks_a_folder(
    learned: Callable[[str], LearnRun], photos: Path, name: str, how: str
) -> None:
    run = learned(name)
    (photos / "broken.png").write_bytes(b"no image")
    (photos / "notes.doc").write_text("no image either")
    (photos / "more").mkdir()
    shutil.copy(photos / "0.png", photos / "more")
    arguments = ("retrieve", "run", photos, "--top", 2, "--count", 3)
    result = evoken(*arguments)
    assert result.exit_code == 0, result.output
    assert how in result.output and "Skipped 1 picture that" in result.output
    assert "Skipped 'notes.doc': not images by their names." in result.output
    assert "the folder 'more' in it has pictures, too" in result.output
    found = json.loads((run.path / "retrieval.json").read_text())
    assert [i["file"] for i in found["images"][:2]] == [
        line.split()[2] for line in result.output.splitlines() if line.split()[0] in ("1", "2")
    ]
    assert len(found["images"]) == 4 and found["ignored"] == ["broken.png"]
    before = (run.path / "retrieval.json").read_bytes()
    assert evoken(*arguments).exit_code == 0
    assert (run.path / "retrieval.json").read_bytes() == before


def test_retrieve_finds_the_pictures_of_a_word() -> None:
    """Pictures that the model drew of one thing, among its pictures of others."""
    folder, model, clip = Path("all"), load_model(), load_clip()
    folder.mkdir()
    for noun in ("cat", "car", "rose"):
        drawn = draw(model, f"a photo of a {noun}", None, 3, steps=8)
        for i, picture in enumerate(drawn):
            picture.save(folder / f"{noun}-{i}.png")
    for noun in ("car", "rose"):
        query = word_feature(clip, "a photo of a <w>", Word("<w>", model.embed(noun)))
        best = [name for name, _ in rank(clip, query, folder).images[:3]]
        assert sorted(best) == [f"{noun}-{i}.png" for i in range(3)]


def test_what_retrieve_refuses(
    learned: Callable[[str], LearnRun], photos: Path, tmp_path: Path
) -> None:
    refused(evoken("retrieve", "run", photos), "evoken learn")
    run = learned("model")
    refused(evoken("retrieve", "run", "nowhere"), "a folder of pictures")
    Path("empty").mkdir()
    refused(evoken("retrieve", "run", "empty"), "found no image")
    Image.new("RGB", (20, 20)).save("a.png")
    refused(evoken("retrieve", "run", "a.png"), "a folder of pictures")
    (run.path / "learned_embeds.safetensors").unlink()
    refused(evoken("retrieve", "run", photos), "evoken learn")
    assert not (run.path / "retrieval.json").exists()
