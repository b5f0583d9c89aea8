"""Folders with quantised weights, and what is refused of them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from evoken.errors import ModelError, SettingError
from evoken.models import quantized as methods
from evoken.models.card import weights_of
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_model
from evoken.models.quantized import is_quantized
from evoken.models.runtimes.precision import check_layers
from evoken.quiet import quiet_loading
from evoken.spec import ModelSpec
from tests import quantizing, tiny
from tests.commands import QUICK, evoken
from tests.elsewhere import elsewhere
from tests.own_pipelines import NEAR, PIPELINES, encoded, pictures_of

INT8 = "torchao Int8WeightOnlyConfig"
HALF = torch.bfloat16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a FLUX.1 that is quantised in a way, each made once."""
    root = tmp_path_factory.mktemp("quantized")
    plain, made = quantizing.flux(root / "plain"), dict[tuple[str, torch.dtype], Path]()

    def folder(way: str = "", dtype: torch.dtype = torch.float32) -> Path:
        if not way:
            return plain
        if (way, dtype) not in made:
            name = root / f"{way} {dtype}".replace(" ", "-")
            made[way, dtype] = quantizing.quantized(plain, name, way, dtype)
        return made[way, dtype]

    return folder


@pytest.fixture(scope="session", autouse=True)
def _not_compiled() -> None:
    """SDNQ would compile its code for this machine, which takes longer than all that it does here;
    it asks once.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDNQ_USE_TORCH_COMPILE", "0")
        with quiet_loading():
            import sdnq  # noqa: F401


def loaded(path: Path, precision: str = "float32", **more: str) -> LatentModel:
    return load_model(ModelSpec(str(path), precision=precision, size=16, **more))


def predicted(model: LatentModel) -> Tensor:
    hidden = model.condition(["a photo of a cat"])
    return model.denoise(model.noise([1]), torch.tensor([0.6]), hidden)


@pytest.mark.parametrize("way", quantizing.WAYS)
def test_a_quantised_folder_draws_as_its_own_pipeline(
    way: str, folders: Callable[..., Path]
) -> None:
    path = folders(way)
    model = loaded(path)
    with quiet_loading():
        pipe = FluxPipeline.from_pretrained(path, dtype=torch.float32)
    for part in (model.denoiser, model.texts.encoders["t5xxl"].encoder):
        assert any(map(is_quantized, part.modules()))
    prompts = ["a photo of a cat", "the blue bird in the snow"]
    tokens, _ = encoded(pipe, prompts)
    torch.testing.assert_close(model.condition(prompts)[:, :-1], tokens, rtol=1e-4, atol=1e-5)
    found, expected = pictures_of(PIPELINES["flux"], model, pipe)
    torch.testing.assert_close(found, expected, rtol=NEAR, atol=NEAR)
    assert model.precision == f"float32; text_encoder_2: {way}; transformer: {way}"
    # It is another model than the one that it was made from, and not far from it.
    plain, here = predicted(loaded(folders())), predicted(model)
    assert not torch.equal(here, plain)
    torch.testing.assert_close(here, plain, rtol=0.3, atol=0.3)


@pytest.mark.parametrize("way", quantizing.WAYS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layers_that_were_made_from_half_precision_run_in_each(
    way: str, precision: str, folders: Callable[..., Path]
) -> None:
    """Of torchao's, some compute in the precision that they were made from, and in no other."""
    expected, model = predicted(loaded(folders(way))), loaded(folders(way, HALF), precision)
    torch.testing.assert_close(predicted(model), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("way", [INT8, "sdnq uint4"])
def test_the_batch_changes_no_bit(way: str, folders: Callable[..., Path]) -> None:
    small = load_model(ModelSpec(str(folders(way)), size=16, batch=16))
    large = load_model(ModelSpec(str(folders(way)), size=16, batch=64))
    hidden = large.condition(["a cat"]).expand(37, -1, -1)
    latents, t = large.noise(range(37)), torch.linspace(0, 1, 37)
    assert torch.equal(small.denoise(latents, t, hidden), large.denoise(latents, t, hidden))


@pytest.mark.usefixtures("own_folder")
def test_a_word_says_in_which_precision_it_was_learned(
    folders: Callable[..., Path], photos: Path
) -> None:
    how = ("--model", folders(INT8), "--size", 16, "--device", "cpu", "--precision", "bfloat16")
    start = ("--start", "cat", "--clip", "")
    result = evoken("learn", photos, *how, *QUICK, *start, "--output", "run")
    assert result.exit_code == 0, result.output
    said = f"bfloat16; text_encoder_2: {INT8}; transformer: {INT8}"
    with safe_open("run/learned_embeds.safetensors", "pt") as word:
        assert json.loads(word.metadata()["evoken"])["precision"] == said
    assert json.loads(Path("run/config.json").read_text())["precision"] == said
    assert said in evoken("inspect", "run").output
    assert evoken("learn", "--resume", "run").exit_code == 0


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "torch-int8"])
def test_other_runtimes_are_refused(runtime: str, folders: Callable[..., Path]) -> None:
    with pytest.raises(SettingError, match=f"`runtime` must be torch .*quantised .got {runtime}"):
        loaded(folders(INT8), runtime=runtime)


def said_to_be(folder: Path, part: str, **entry: object) -> Path:
    """A plain folder whose part says in its configuration that it is quantised."""
    tiny.flux_pipeline().save_pretrained(folder)
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": entry}))
    return folder


def test_an_unknown_way_to_quantise(tmp_path: Path) -> None:
    path = said_to_be(tmp_path / "one", "transformer", quant_method="quanto")
    with pytest.raises(ModelError, match=r"the transformer of .* is quantised by 'quanto', which"):
        loaded(path)
    path = said_to_be(tmp_path / "two", "text_encoder_2", bits=4)
    with pytest.raises(ModelError, match=r"the text_encoder_2 of .* is quantised by ''"):
        loaded(path)


@pytest.mark.parametrize(
    ("name", "packages"),
    [("bitsandbytes", "accelerate bitsandbytes"), ("sdnq", "sdnq"), ("torchao", "'evoken[quan")],
)
def test_a_missing_package_is_named(
    name: str, packages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = said_to_be(tmp_path / "one", "text_encoder_2", quant_method=name)
    monkeypatch.setattr(methods, "find_spec", lambda module: None)
    with pytest.raises(ModelError) as error:
        loaded(path)
    assert f"quantised by {name}, and there is no package accelerate or {name}" in str(error.value)
    assert f"pip install {packages}" in str(error.value)


def test_what_runs_on_no_processor_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers loads denoisers of bitsandbytes where there is a GPU, and nowhere else."""
    path = said_to_be(tmp_path / "one", "transformer", load_in_4bit=True)
    monkeypatch.setattr(methods, "find_spec", lambda module: module)
    with pytest.raises(ModelError, match=r"by bitsandbytes, which cannot run on a CPU.*`device`"):
        loaded(path)


def test_what_cannot_be_offloaded_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = said_to_be(tmp_path / "one", "text_encoder_2", load_in_8bit=True)
    monkeypatch.setattr(methods, "find_spec", lambda module: module)
    wanted = "`offload` cannot be used here: the text_encoder_2 of .* by bitsandbytes, whose layers"
    with elsewhere() as device, pytest.raises(SettingError, match=wanted):
        load_model(ModelSpec(str(path), precision="float32", device=device, offload=True))


@pytest.mark.parametrize("way", [INT8, "sdnq uint4", ""])
def test_quantised_parts_take_turns_on_a_card(way: str, folders: Callable[..., Path]) -> None:
    """Those of a folder, and those that become int8 there; the bits are those without."""
    found, runtime = [], "torch" if way else "torch-int8"
    with elsewhere(float64=True) as device:
        for offload in (False, True):
            spec = ModelSpec(str(folders(way)), size=16, batch=16, device=device, runtime=runtime)
            model = load_model(replace(spec, precision="float32", offload=offload))
            before, first = weights_of(model.denoiser), predicted(model)
            model.encode(torch.zeros(1, 3, 16, 16))  # after which they have to come again
            assert next(model.denoiser.parameters()).is_cpu is offload
            found += [first, predicted(model)]
            assert (weights_of(model.denoiser) < before) is (not way)
    assert all(torch.equal(x, found[0]) for x in found)


def in_bytes(layer: torch.nn.Module) -> torch.nn.Module:
    """The layer with weights in int8, which torch has no code for."""
    layer.weight = torch.nn.Parameter(layer.weight.data.to(torch.int8), requires_grad=False)
    return layer


@pytest.mark.parametrize(
    "layer", [torch.nn.Linear(8, 8), torch.nn.Conv2d(8, 8, (3, 2), dilation=2, padding=1)]
)
def test_layers_that_do_not_run_here_say_so(layer: torch.nn.Module) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), in_bytes(layer))
    wanted = "quantised as Parameter cannot be used on cpu in float32: .*type"
    with pytest.raises(ModelError, match=wanted):
        check_layers(module, ModelSpec())


@pytest.mark.parametrize("size", [1, (3, 2)])
def test_quantised_convolutions_are_tried(size: int | tuple[int, int]) -> None:
    """Those that run, run as they are."""
    seen = []

    class Wide(torch.nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.shape)
            return torch.nn.functional.conv2d(x, self.weight.float(), dilation=self.dilation)

    check_layers(in_bytes(Wide(4, 8, size, dilation=2, bias=False)), ModelSpec())
    assert seen == [(16, 4, 1, 1) if size == 1 else (16, 4, 5, 3)]


@pytest.mark.parametrize("way", [INT8, "sdnq uint4"])
@pytest.mark.parametrize(
    ("file", "hole"),
    [
        ("text_encoder_2/model.safetensors", "SelfAttention.o."),
        ("transformer/diffusion_pytorch_model.safetensors", "attn.to_out"),
    ],
)
def test_a_quantised_folder_with_holes(
    way: str, file: str, hole: str, folders: Callable[..., Path], tmp_path: Path
) -> None:
    path = shutil.copytree(folders(way), tmp_path / "holes")
    with safe_open(path / file, "pt") as content:
        about = content.metadata()
    few = {k: v for k, v in load_file(path / file).items() if hole not in k}
    save_file(few, path / file, about)
    with pytest.raises(ModelError, match="holes"):
        loaded(path)
