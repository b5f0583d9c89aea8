"""The denoiser on every runtime: one battery, the cache of exports, and memory."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from evoken.cache import cache_root
from evoken.cli.app import app
from evoken.errors import ModelError, SettingError
from evoken.files import lock_folder
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_model, warm_up
from evoken.models.pipelines import load_pipeline
from evoken.models.runtimes import int8, onnx_runtime, requirements
from evoken.models.runtimes.choose import on_runtime
from evoken.models.runtimes.exports import Check, read_entry, write_entry
from evoken.models.runtimes.int8 import Int8Convolution, in_float32
from evoken.models.runtimes.requirements import check_spec
from evoken.runtimes import PRECISIONS, RUNTIMES
from evoken.spec import ModelSpec
from tests.commands import SMALL

ELSEWHERE = tuple(name for name in RUNTIMES if name != "torch")
COMBINATIONS = [
    (n, r, p) for n in ("model", "flow") for r in ELSEWHERE for p in RUNTIMES[r].precisions
]
COMBINATIONS += [(n, "torch-int8", "float32") for n in ("second", "xl", "flux")]  # no export
# Largest difference from torch in float32, in shares of the outputs' root mean square.
TOLERANCE = {"torch-int8": 0.3, "onnx": 1e-4, "openvino": 1e-4}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOKEN_CACHE", str(root))


Inputs = tuple[Tensor, Tensor, Tensor]


def inputs(model: LatentModel, rows: int) -> Inputs:
    prompts = ["a photo of a cat", "the blue bird", "a dog"]
    hidden = model.condition(prompts)[torch.arange(rows) % len(prompts)]
    return model.noise(range(rows)), torch.linspace(0.02, 0.98, rows), hidden


@pytest.mark.parametrize(("name", "runtime", "precision"), COMBINATIONS)
def test_every_runtime_is_near_torch_and_the_batch_changes_no_bit(
    tiny_folder: Path, name: str, runtime: str, precision: str
) -> None:
    path = str(tiny_folder / name)
    there = load_pipeline(path, ModelSpec("tiny", precision, 64, runtime=runtime, size=16))
    torchs = load_pipeline(path, ModelSpec("tiny", size=16))  # FLUX would draw 1,024 px
    given_ = inputs(torchs, 37)
    expected = torchs.denoise(*given_)
    found = there.denoise(*given_)
    rms = float(expected.square().mean().sqrt())
    assert float((found - expected).abs().max()) < TOLERANCE[runtime] * rms
    assert there.calls == 37
    few = there.denoise(*(x[:5] for x in given_))
    assert float((few - found[:5]).abs().max()) < 1e-5 * rms  # of fewer rows than a unit
    for batch in (1, 16, 0):
        there.spec = dataclasses.replace(there.spec, batch=batch)
        assert torch.equal(there.denoise(*given_), found)
        assert torch.equal(there.denoise(*(x[:5] for x in given_)), few)
        assert torch.equal(there.denoise(*(x[:32] for x in given_)), found[:32])


def test_a_condition_for_many_rows_is_rounded_as_if_written_out() -> None:
    model = load_model(ModelSpec("stickers-flow"))
    latents, t, hidden = (
        model.noise(range(64)),
        torch.linspace(0, 1, 64),
        model.condition(["a cat"]),
    )
    spread = hidden.expand(64, -1, -1)
    found = model.denoise(latents, t, spread)
    assert torch.equal(model.denoise(latents, t, spread.contiguous()), found)
    assert torch.equal(model.denoise(latents[:32], t[:32], spread[:32]), found[:32])


@pytest.mark.parametrize("runtime", ELSEWHERE)
def test_a_runtime_is_compared_with_torch_once(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.setenv("EVOKEN_CACHE", str(tmp_path / "cache"))
    spec = ModelSpec("tiny", runtime=runtime)
    first, second = (load_pipeline(str(tiny_folder / "model"), spec) for _ in range(2))
    check = warm_up(first)
    assert check is not None and 0 < check.largest < check.rms
    assert runtime in str(check) and first.calls == 0
    assert warm_up(second) is None
    given_ = inputs(first, 16)
    assert torch.equal(first.denoise(*given_), second.denoise(*given_))
    (entry,) = (tmp_path / "cache").iterdir()
    assert read_entry(entry) == check


def tiny_module(seed: int = 0) -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(6, 2, 1))
    generator = torch.Generator().manual_seed(seed)
    for value in layers.parameters():
        value.requires_grad_(False).copy_(torch.randn(value.shape, generator=generator))
    return layers


EXAMPLE = (torch.linspace(-1, 1, 16 * 2 * 64).view(16, 2, 8, 8),)


@pytest.mark.parametrize("runtime", ELSEWHERE)
def test_other_weights_are_another_export(tmp_path: Path, runtime: str) -> None:
    spec = ModelSpec(runtime=runtime)
    for seed in (0, 1, 0):
        expected = tiny_module(seed)(*EXAMPLE)
        run, _ = on_runtime(spec, tiny_module(seed), EXAMPLE, tmp_path)
        torch.testing.assert_close(run(*EXAMPLE), expected, rtol=0.1, atol=0.1)
    assert len(list(tmp_path.iterdir())) == 2


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, 99), share=st.floats(0, 1), cut=st.booleans())
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_damaged_export_is_made_anew(
    root: Path, runtime: str, which: int, share: float, cut: bool
) -> None:
    spec, folder = ModelSpec(runtime=runtime), root / "damaged"
    expected = on_runtime(spec, tiny_module(), EXAMPLE, folder)[0](*EXAMPLE)
    (entry,) = folder.glob(f"{runtime}-*")
    files = sorted(entry.iterdir())
    file = files[which % len(files)]
    content = bytearray(file.read_bytes())
    place = int(share * (len(content) - 2))  # that a last line's end is missing may go unnoticed
    if cut:
        del content[place:]
    else:
        content[place] ^= 0xFF
    file.write_bytes(bytes(content))
    again, check = on_runtime(spec, tiny_module(), EXAMPLE, folder)
    assert check is not None
    assert torch.equal(again(*EXAMPLE), expected)
    assert on_runtime(spec, tiny_module(), EXAMPLE, folder)[1] is None


class Cancelling(nn.Module):
    """What int8 weights cannot hold: one huge weight that meets only zeros, beside small ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        self.layer.weight.requires_grad_(False).fill_(0.01)[:, 0] = 1e4

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x * torch.tensor([0.0, 1, 1, 1]))
        return out


def test_outputs_that_are_not_torchs_are_refused_and_not_kept(tmp_path: Path) -> None:
    spec = ModelSpec(runtime="torch-int8")
    with pytest.raises(
        ModelError, match=r"differs from torch by .* rounding\. Set `runtime` to torch"
    ):
        on_runtime(spec, Cancelling(), (torch.ones(16, 4),), tmp_path)
    assert not list(tmp_path.iterdir())


class Untraceable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x).real


def test_a_denoiser_that_cannot_be_exported_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="onnx cannot run this denoiser"):
        on_runtime(ModelSpec(runtime="onnx"), Untraceable(), (torch.ones(16, 4, 4),), tmp_path)


def test_rows_of_another_size_are_refused(tmp_path: Path) -> None:
    run, _ = on_runtime(ModelSpec(runtime="onnx"), tiny_module(), EXAMPLE, tmp_path)
    with pytest.raises(ModelError, match="was exported for rows"):
        run(torch.zeros(16, 2, 4, 4))


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="EVOKEN_CACHE"):
        on_runtime(ModelSpec(runtime="onnx"), tiny_module(), EXAMPLE, tmp_path / "file")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_root() != Path("/elsewhere/evoken")  # EVOKEN_CACHE comes first
    monkeypatch.delenv("EVOKEN_CACHE")
    assert cache_root() == Path("/elsewhere/evoken")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "evoken"


def test_int8_weights_take_a_quarter_of_the_memory(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(2, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 2, 3))
    module.requires_grad_(False)

    def held() -> int:
        values = (*module.parameters(), *module.buffers())
        return sum(v.numel() * v.element_size() for v in values)

    before = held()
    on_runtime(ModelSpec(runtime="torch-int8"), module, EXAMPLE, tmp_path)
    assert held() < 0.27 * before


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"groups": 2}, {"stride": 2}])
def test_a_convolution_in_parts_is_that_of_its_rounded_weights(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(int8, "AT_ONCE", 3 * 4 * 9)  # weights of three output channels
    layer = nn.Conv2d(4, 14, 3, padding=1, **options).requires_grad_(False)
    found = Int8Convolution(layer)
    layer.weight.copy_(found.weight * found.scale)
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(found(x), layer(x))


@pytest.mark.parametrize("name", ["stickers", "stickers-flow"])
def test_texts_and_pictures_of_int8_weights_are_near(name: str) -> None:
    exact, small = (load_model(ModelSpec(name, runtime=r)) for r in ("torch", "torch-int8"))
    assert any(isinstance(layer, Int8Convolution) for layer in small.vae.modules())
    assert not any(isinstance(layer, nn.Conv2d) for layer in small.vae.modules())

    def apart(a: Tensor, b: Tensor) -> float:
        return float((a - b).square().mean().sqrt() / a.square().mean().sqrt())

    prompts = ["a photo of a cat", "the blue bird"]
    hidden = exact.condition(prompts)
    assert 0 < apart(hidden, small.condition(prompts)) < 0.02
    pictures = exact.generate(hidden, [1, 2], steps=5)
    latents = exact.encode(pictures)
    assert 0 < apart(latents, small.encode(pictures)) < 0.1
    assert 0 < apart(exact.decode(latents), small.decode(latents)) < 0.02


def test_weights_in_float16_are_compared_with_float32_and_become_the_same_int8(
    tmp_path: Path,
) -> None:
    halves = tiny_module().half()
    whole = tiny_module()
    whole.load_state_dict(halves.state_dict())
    with torch.no_grad(), in_float32(halves):
        assert torch.equal(halves(*EXAMPLE), whole(*EXAMPLE))
    assert {p.dtype for p in halves.parameters()} == {torch.float16}
    spec = ModelSpec(runtime="torch-int8")
    (first, check), (second, known) = (
        on_runtime(spec, module, EXAMPLE, tmp_path / str(i))
        for i, module in enumerate((halves, whole))
    )
    assert check is not None and known is not None and check == known
    assert torch.equal(first(*EXAMPLE), second(*EXAMPLE))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_specs_are_possible_or_refused_in_a_sentence(runtime: str, precision: str) -> None:
    spec = ModelSpec(precision=precision, runtime=runtime)
    imitated = precision == "float16" and requirements.imitates(ModelSpec(precision=precision))
    if precision not in RUNTIMES[runtime].precisions or imitated:
        with pytest.raises(SettingError, match=precision):
            check_spec(spec)
    else:
        check_spec(spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runtime": "tensorrt"}, "`runtime` must be one of torch, torch-int8, onnx, openvino"),
        ({"device": "toaster"}, "`device` must be one of torch's"),
        ({"device": "meta"}, "`device` must be one that torch finds here: cpu"),
        ({"device": "cuda", "runtime": "onnx"}, "`device` must be cpu with the runtime onnx"),
        ({"batch": -1}, "`batch` must be from 1 to 4,096, or 0"),
    ],
)
def test_impossible_specs_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        load_model(dataclasses.replace(ModelSpec(), **changes))


@pytest.mark.parametrize("runtime", ELSEWHERE)
def test_a_missing_extra_says_what_to_type(monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=rf"pip install 'evoken\[{RUNTIMES[runtime].extra}\]'"):
        load_model(ModelSpec(runtime=runtime))


def test_threads_of_onnx_runtime_sleep_while_they_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    rows, spent = torch.ones(256, 512), {}
    onnx_runtime.export(nn.Linear(512, 512), [rows], tmp_path)
    for spins in ("1", onnx_runtime.SPINS):
        monkeypatch.setattr(onnx_runtime, "SPINS", spins)
        run = onnx_runtime.load(tmp_path)
        run(rows)
        before = time.process_time()
        time.sleep(0.3)
        spent[spins] = time.process_time() - before
    assert spent["0"] < spent["1"] / 4


HEARD = """
import gc, os, signal, sys, torch
from pathlib import Path
from evoken.models.runtimes import openvino_runtime

loaded = []
for place in map(Path, sys.argv[1:]):
    openvino_runtime.export(torch.nn.Linear(2, 2), [torch.ones(1, 2)], place)
    loaded.append(openvino_runtime.load(place))
while loaded:
    loaded.pop(0)  # the first one first
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


def test_ctrl_c_is_heard_after_models_in_openvino_are_gone(tmp_path: Path) -> None:
    """Each would take the stack with it that signal handlers run on."""
    places = [tmp_path / name for name in ("one", "other")]
    for place in places:
        place.mkdir()
    command = [sys.executable, "-X", "faulthandler", "-c", HEARD, *map(str, places)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr


def test_an_export_that_was_killed_leaves_nothing_for_ever(tmp_path: Path) -> None:
    left, busy = tmp_path / ".onnx-1.abcdefgh", tmp_path / ".onnx-1.ijklmnop"
    for folder in (left, busy):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"half")
    lock = lock_folder(busy)
    assert lock is not None
    check = Check("onnx", 0.0, 1.0)
    assert write_entry(tmp_path / "onnx-1", lambda folder: check) == check
    assert {p.name for p in tmp_path.iterdir()} == {"onnx-1", busy.name}
    os.close(lock)


@pytest.fixture
def evoken(
    tiny_folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    monkeypatch.chdir(photos.parent)
    model = ("--model", str(tiny_folder / "model"), "--clip", str(tiny_folder / "clip"))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["learn", str(photos), *model, *SMALL, *arguments])

    return run


def test_learning_says_what_it_takes_and_how_near_a_new_export_is(
    evoken: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOKEN_CACHE", str(tmp_path / "cache"))
    result = evoken("--runtime", "onnx", "--output", "run", "--preview-every", "0")
    assert result.exit_code == 0, result.output
    assert "onnx differs from torch by at most" in result.output
    assert (
        "with at most 128 calls, and 1,528 for previews and the report: about 0." in result.output
    )
    assert "GB of memory." in result.output
    assert '"runtime": "onnx"' in Path("run/config.json").read_text()


def test_a_runtime_that_is_none_is_told(evoken: Callable[..., Result]) -> None:
    result = evoken("--runtime", "tensorrt")
    assert result.exit_code == 2
    assert "error: --runtime must be one of" in result.output
