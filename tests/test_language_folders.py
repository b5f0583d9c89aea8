"""Folders of models with language models that are not whole, not what they say, or not safe: one
clear sentence each.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evoken.errors import ModelError
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from tests import commands, tiny, tiny_language
from tests.conftest import make_photos
from tests.test_folders import change, refused
from tests.tiny_tokenizers import ROOM, qwen_tokenizer

NAMES = ("qwen-image", "sana", "flux-2-dev", "chroma")
# What does without; and what of a tokenizer is told by the sentence for chat templates.
SPARED = ("generation_config.json", "processor_config.json", "chat_template.jinja")
CHATTING = ("klein", "z-image", "flux-2-dev")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a small pipeline, to be damaged."""
    return lambda name: shutil.copytree(tiny_folder / name, tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_of_any_part_is_named(folder: Callable[[str], Path], name: str) -> None:
    path = folder(name)
    for part in sorted(p for p in path.iterdir() if p.is_dir()):
        for file in sorted(f for f in part.iterdir() if f.name not in SPARED):
            content = file.read_bytes()
            file.unlink()
            refused(path, rf"{part.name}.*(lacks|holds no)|lacks.*{part.name}")
            file.write_bytes(content)
    load_model(ModelSpec(str(path)))


@pytest.mark.parametrize("name", NAMES)
def test_an_autoencoder_of_another_model(folder: Callable[[str], Path], name: str) -> None:
    path = folder(name)
    tiny.autoencoder(latent_channels=8).save_pretrained(path / "vae")
    change(path / "model_index.json", vae=["diffusers", "AutoencoderKL"])
    refused(path, "channels|must be of the class Autoencoder")


@pytest.mark.parametrize(
    ("name", "other", "what"),
    [
        ("z-image", "Flux2KleinPipeline", "must be of the class AutoencoderKLFlux2"),
        ("qwen-image", "ZImagePipeline", "got 'QwenImageTransformer2DModel'"),
        ("klein", "Flux2KleinKVPipeline", "for edits by instructions"),
        ("klein", "FluxKontextPipeline", "for edits by instructions"),
        ("qwen-image", "QwenImageEditPipeline", "for edits by instructions"),
        ("qwen-image", "QwenImageEditPlusPipeline", "not one for text to image"),
        ("qwen-image", "QwenImageLayeredPipeline", "for pictures in layers"),
        ("lumina-2", "LuminaPipeline", "one of Stable Diffusion 1.x, .*Lumina 2, Chroma"),
    ],
)
def test_a_pipeline_of_another_family(
    folder: Callable[[str], Path], name: str, other: str, what: str
) -> None:
    path = folder(name)
    change(path / "model_index.json", _class_name=other)
    refused(path, what)


@pytest.mark.parametrize("name", ["klein", "qwen-image", "lumina-2"])
def test_a_text_encoder_of_another_size(folder: Callable[[str], Path], name: str) -> None:
    path = folder(name)
    denoiser = {
        "klein": tiny_language.flux_2_transformer(3 * 24, guidance=False),
        "qwen-image": tiny_language.qwen_image_transformer(24),
        "lumina-2": tiny_language.lumina_2_transformer(24),
    }[name]
    denoiser.save_pretrained(path / "transformer")
    width = 3 if name == "klein" else 1
    refused(path, f"a prompt of width {24 * width}, .* makes one of {16 * width}")


def test_a_text_encoder_with_too_few_layers(folder: Callable[[str], Path]) -> None:
    path = folder("klein")
    words = qwen_tokenizer()
    tiny_language.qwen3(words, 20).save_pretrained(path / "text_encoder")
    refused(path, "layer 27, and there are 20")


@pytest.mark.parametrize("name", ["z-image", "qwen-image", "sana"])
def test_a_processor_in_place_of_a_tokenizer(folder: Callable[[str], Path], name: str) -> None:
    path = folder(name)
    change(path / "model_index.json", tokenizer=["transformers", "Qwen2_5_VLProcessor"])
    refused(path, "must be a tokenizer .*Qwen2_5_VLProcessor.*reads pictures as well")


def test_a_processor_where_it_belongs_needs_no_library_of_pictures(tiny_folder: Path) -> None:
    index = json.loads((tiny_folder / "flux-2-dev" / "model_index.json").read_text())
    assert index["tokenizer"] == ["transformers", "PixtralProcessor"]
    model = load_model(ModelSpec(str(tiny_folder / "flux-2-dev"), size=16))
    assert model.condition(["a cat"]).shape == (1, ROOM, 3 * 16 + 1)


CODE = "from pathlib import Path\nPath('run').write_text('')\nclass Own:\n    pass\n"


@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize("part", ["text_encoder", "transformer", "tokenizer", "_class_name"])
def test_code_of_a_folder_is_never_run(folder: Callable[[str], Path], part: str) -> None:
    path = folder("z-image")
    for place in (path, *(p for p in path.iterdir() if p.is_dir())):
        (place / "own.py").write_text(CODE)
    change(path / "model_index.json", **{part: ["own", "Own"]})
    refused(path, "is code of its own .*Own.*code from a file is never run")
    assert not Path("run").exists()


@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize("name", ["z-image", "flux-2-dev"])
def test_code_that_a_configuration_names_is_passed_over(
    folder: Callable[[str], Path], name: str, tiny_folder: Path
) -> None:
    path = folder(name)
    for part, file, kinds in (
        ("text_encoder", "config.json", ("AutoModel", "AutoConfig")),
        ("tokenizer", "tokenizer_config.json", ("AutoTokenizer",)),
    ):
        (path / part / "own.py").write_text(CODE)
        own: dict[str, Any] = dict.fromkeys(kinds, "own.Own")
        if part == "tokenizer":
            own = {"AutoTokenizer": [None, "own.Own"]}
        change(path / part / file, auto_map=own)
    found, expected = (load_model(ModelSpec(str(p))) for p in (path, tiny_folder / name))
    assert torch.equal(found.condition(["a cat"]), expected.condition(["a cat"]))
    assert not Path("run").exists()


SAID = "{{ m['content'] if m['content'] is string else m['content'][0]['text'] }}"
TEMPLATES = {
    "": "is not there",
    "{{ messages[0]['role'] }}<|im_end|>[INST]": r"once \(got it 0 times\)",
    f"{{% for m in messages %}}{SAID}{SAID}{{% endfor %}}": r"once \(got it 2 times\)",
    "{% for m in messages %}": "cannot be used: .*end of template",
    "{{ raise_exception('roles must alternate') }}": "cannot be used: roles must alternate",
    f"{{% for m in messages %}}<|user|>{SAID}<|model|>{{% endfor %}}": "no marks in it",
}


@pytest.mark.parametrize("name", CHATTING)
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_wrong_chat_template(folder: Callable[[str], Path], name: str, template: str) -> None:
    path = folder(name)
    file = path / "tokenizer" / "chat_template.jinja"
    file.write_text(template) if template else file.unlink()
    refused(path, f"the chat template of the model's tokenizer .*{TEMPLATES[template]}")


@pytest.mark.parametrize("name", ["qwen-image", "flux-2-dev"])
def test_a_vision_tower_that_is_not_there(folder: Callable[[str], Path], name: str) -> None:
    path = folder(name)
    for file in (path / "text_encoder").glob("*.safetensors"):
        kept = {k: v for k, v in load_file(file).items() if "visi" not in k and "visual" not in k}
        save_file(kept, file, {"format": "pt"})
    refused(path, "text_encoder lacks the weights of its vision tower")
    config = json.loads((path / "text_encoder" / "config.json").read_text())
    del config["vision_config"]  # of which a large one would be made up
    (path / "text_encoder" / "config.json").write_text(json.dumps(config))
    refused(path, "text_encoder lacks the weights of its vision tower")


def test_single_files_and_other_runtimes_are_refused_for_what_they_are(
    tiny_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "one.safetensors"
    shutil.copy(next((tiny_folder / "z-image" / "transformer").glob("*.safetensors")), file)
    config = str(tiny_folder / "z-image")
    with pytest.raises(ModelError, match="single files of Z-Image cannot be read"):
        load_model(ModelSpec(str(file), config=config))
    for runtime in ("onnx", "openvino"):
        error = commands.evoken("generate", "a cat", "--model", config, "--runtime", runtime)
        commands.refused(error, "--runtime must be torch or torch-int8 for this kind of model")


@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize("name", ["klein-base", "sana"])
def test_what_is_typed_is_refused_in_one_line(tiny_folder: Path, name: str) -> None:
    long = "red house " * 60
    model = ("--model", tiny_folder / name, "--size", 16)
    commands.refused(commands.evoken("generate", long, *model), "a prompt may have at most")
    photos = make_photos(Path("disc"))
    learn = ("learn", photos, *model, "--clip", tiny_folder / "clip", *commands.QUICK)
    said = commands.evoken(*learn, "--preview-prompt", long + "{}")
    commands.refused(said, "a prompt may have at most")
    assert not Path("runs").exists()


def test_int8_weights(tiny_folder: Path) -> None:
    """Of denoiser, text encoder and autoencoder."""
    for name in ("klein-base", "z-image", "qwen-image", "lumina-2", "sana", "chroma"):
        path = str(tiny_folder / name)
        whole, small = (
            load_model(ModelSpec(path, size=16, runtime=r)) for r in ("torch", "torch-int8")
        )
        hidden, t = whole.condition(["a photo of a cat"] * 2), torch.tensor([0.2, 0.7])
        expected = whole.denoise(whole.noise([0, 1]), t, hidden)
        found = small.denoise(whole.noise([0, 1]), t, small.condition(["a photo of a cat"] * 2))
        assert (found - expected).square().mean().sqrt() < 0.3 * expected.square().mean().sqrt()
