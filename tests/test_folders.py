"""Models as people bring them: folders that are not whole, files that are something else, and what
the hub answers.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from huggingface_hub import ModelInfo
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils._http import hf_raise_for_status
from safetensors.torch import load_file, save_file

from evoken.errors import ImageError, ModelError
from evoken.flowopt.job import edit_into
from evoken.models.autoencoders import autoencoder_of
from evoken.models.clip import Clip
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_model
from evoken.models.provenance import weights_hash
from evoken.pictures.drawing import draw, images_of_each
from evoken.spec import ModelSpec
from evoken.textual_inversion.job import learn_into
from evoken.textual_inversion.settings import LearnSettings
from evoken.words.word import Word
from tests import ldm, tiny
from tests.commands import evoken
from tests.test_loading import assert_same

# The client's own library of connections, whichever it is.
httpx: Any = import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 99\n"
PAGE = b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"
FAMILIES = ("model", "xl", "flow", "flux")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a small pipeline, to be damaged."""
    return lambda name: shutil.copytree(tiny_folder / name, tmp_path / name)


def refused(path: object, match: str, **spec: Any) -> ModelError:
    """The error of a model, which says one thing and what to do."""
    with pytest.raises(ModelError, match=match) as caught:
        load_model(ModelSpec(str(path), **spec))
    assert caught.value.fix and "\n" not in str(caught.value)
    return caught.value


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def weights(part: Path) -> Path:
    return next(part.glob("*.safetensors"))


def parts(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir())


# Folders that are not whole


@pytest.mark.parametrize(
    ("name", "part", "value"),
    [
        ("model", "unet", []),
        ("model", "tokenizer", ["transformers"]),
        ("model", "text_encoder", [None, None]),
        ("model", "scheduler", None),
        ("flow", "text_encoder_3", []),
        ("xl", "text_encoder", [None, None]),
    ],
)
def test_an_index_that_does_not_say_what_a_part_is(
    folder: Callable[[str], Path], name: str, part: str, value: object
) -> None:
    path = folder(name)
    change(path / "model_index.json", **{part: value})
    told = rf"must give the library and the class of its {part} \(got {re.escape(repr(value))}\)"
    refused(path, told)


def test_an_autoencoder_that_only_looks_through_pictures(folder: Callable[[str], Path]) -> None:
    wide, blocks = (8, 8), (1, 1)
    small = AutoencoderTiny(
        encoder_block_out_channels=wide,
        decoder_block_out_channels=wide,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
    )
    with pytest.raises(ModelError, match=r"must be of one of the classes AutoencoderKL, .*Tiny"):
        autoencoder_of(small)
    path = folder("model")
    change(path / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    refused(path, "the vae of .* must be of the class AutoencoderKL .*'AutoencoderTiny'")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_file_of_any_part_is_named(folder: Callable[[str], Path], name: str) -> None:
    path = folder(name)
    for part in parts(path):
        for file in sorted(part.iterdir()):
            content = file.read_bytes()
            file.unlink()
            refused(path, rf"{part.name}.*(lacks|holds no)|lacks.*{part.name}")
            file.write_bytes(content)
    load_model(ModelSpec(str(path)))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_part_is_named(folder: Callable[[str], Path], name: str) -> None:
    path = folder(name)
    for part in parts(path):
        kept = part.rename(path.parent / "kept")
        refused(path, f"lacks its {part.name}:")
        kept.rename(part)


@pytest.mark.parametrize(
    ("content", "match"),
    [(POINTER, "is a git-lfs pointer, not the file"), (PAGE, "is a web page"), (b"", "is empty")],
)
def test_a_file_that_only_takes_the_place_of_one(
    folder: Callable[[str], Path], content: bytes, match: str
) -> None:
    path = folder("model")
    for file in (path / "model_index.json", *(f for part in parts(path) for f in part.iterdir())):
        kept = file.read_bytes()
        file.write_bytes(content)
        error = refused(path, match)
        assert file.name in error.problem
        assert (error.fix == "Fetch it with: git lfs pull") == (content == POINTER)
        file.write_bytes(kept)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe{}"])
def test_a_damaged_configuration(folder: Callable[[str], Path], content: bytes) -> None:
    path = folder("model")
    for file in (path / "model_index.json", *path.glob("*/*.json")):
        kept = file.read_bytes()
        file.write_bytes(content)
        assert file.name in refused(path, "JSON").problem
        file.write_bytes(kept)


@pytest.mark.parametrize(
    ("file", "name", "value", "words"),
    [
        ("scheduler/scheduler_config.json", "rescale_betas_zero_snr", "x", "true or false"),
        ("scheduler/scheduler_config.json", "steps_offset", True, "a number"),
        ("scheduler/scheduler_config.json", "steps_offset", [1], "a number"),
        ("scheduler/scheduler_config.json", "beta_end", float("nan"), "finite"),
        ("scheduler/scheduler_config.json", "beta_schedule", 1, "a text"),
        ("vae/config.json", "scaling_factor", "0.2", "a number"),
        ("vae/config.json", "force_upcast", 0.5, "true or false"),
        ("unet/config.json", "block_out_channels", 32, "a list"),
        ("unet/config.json", "attention_head_dim", {}, "a list or a number"),
        ("text_encoder/config.json", "layer_norm_eps", float("inf"), "finite"),
    ],
)
def test_an_entry_of_another_kind_than_its_class_takes(
    file: str, name: str, value: object, words: str, folder: Callable[[str], Path]
) -> None:
    made = folder("model")
    change(made / file, **{name: value})
    refused(made, f"'?{name}'? in .* must be {words} ")


@pytest.mark.parametrize("beta_end", [1e24, 2, 1.0001])
def test_noise_levels_that_are_none(beta_end: float, folder: Callable[[str], Path]) -> None:
    made = folder("model")
    change(made / "scheduler/scheduler_config.json", beta_end=beta_end)
    refused(made, "noise levels of the model's scheduler must rise")


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_pipe_in_place_of_weights_is_not_waited_for(
    part: str, folder: Callable[[str], Path]
) -> None:
    made = folder("model")
    file = weights(made / part)
    file.unlink()
    os.mkfifo(file)
    refused(made, "holds no weights in safetensors")


def test_entries_as_files_of_several_years_have_them(folder: Callable[[str], Path]) -> None:
    made = folder("model")
    change(made / "unet/config.json", upcast_attention=None, dropout=0, no_more="x")  # as SDXL
    change(made / "vae/config.json", latents_mean=None)
    config = json.loads((made / "scheduler/scheduler_config.json").read_text())
    for newer in ("timestep_spacing", "rescale_betas_zero_snr", "prediction_type"):
        config.pop(newer, None)
    (made / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    load_model(ModelSpec(str(made)))


def test_the_older_layout_of_a_vocabulary(folder: Callable[[str], Path]) -> None:
    path = folder("model")
    words = path / "tokenizer"
    expected = load_model(ModelSpec(str(path))).condition(["a cat"])
    found = json.loads((words / "tokenizer.json").read_text())["model"]
    pairs = (m if isinstance(m, str) else " ".join(m) for m in found["merges"])
    (words / "vocab.json").write_text(json.dumps(found["vocab"]))
    (words / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs, ""]))
    (words / "tokenizer.json").unlink()
    assert torch.equal(load_model(ModelSpec(str(path))).condition(["a cat"]), expected)
    for name in ("merges.txt", "vocab.json"):
        kept = (words / name).read_bytes()
        (words / name).unlink()
        refused(path, r"tokenizer lacks its vocabulary: tokenizer\.json or vocab\.json and merges")
        (words / name).write_bytes(kept)


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_that_are_not_there_are_not_made_up(
    folder: Callable[[str], Path], name: str
) -> None:
    path = folder(name)
    for file in path.glob("*/*.safetensors"):
        values = load_file(file)
        fewer = dict(list(values.items())[:-1])
        save_file(fewer, file, {"format": "pt"})
        refused(path, "all of its weights|could not load")
        save_file(values, file, {"format": "pt"})


# Parts that do not fit


def test_a_vocabulary_of_another_model(folder: Callable[[str], Path]) -> None:
    path = folder("model")
    file = path / "tokenizer" / "tokenizer.json"
    found = json.loads(file.read_text())
    size = len(found["model"]["vocab"])
    found["model"]["vocab"] |= {f"new{i}</w>": size + i for i in range(9)}
    file.write_text(json.dumps(found))
    refused(path, rf"vocabulary of the tokenizer of .* does not fit .*{size + 9} tokens for {size}")


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_longer_than_the_encoder_reads(folder: Callable[[str], Path], name: str) -> None:
    path = folder(name)
    change(path / "tokenizer" / "tokenizer_config.json", model_max_length=77)
    refused(path, "prompts of 77 tokens, and its text encoder reads 32")


@pytest.mark.parametrize(
    ("channels", "what"), [(9, "an inpainting model"), (8, "edits by instructions"), (6, "got 6")]
)
def test_a_denoiser_that_reads_more_than_latents(
    folder: Callable[[str], Path], channels: int, what: str
) -> None:
    path = folder("model")
    tiny.unet(in_channels=channels).save_pretrained(path / "unet")
    refused(path, rf"must read 4 channels.*got {channels}.*|{what}")
    assert what in str(refused(path, "channels"))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_autoencoder_of_another_model(folder: Callable[[str], Path], name: str) -> None:
    path = folder(name)
    tiny.autoencoder(latent_channels=8).save_pretrained(path / "vae")
    refused(path, "channels")


def test_a_denoiser_that_reads_other_prompts(folder: Callable[[str], Path]) -> None:
    path = folder("model")
    tiny.unet(cross_attention_dim=24).save_pretrained(path / "unet")
    refused(path, "a prompt of width 24, and its text encoders make one of 16")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers(folder: Callable[[str], Path], bad: float) -> None:
    path = folder("model")
    for file in path.glob("*/*.safetensors"):
        values = load_file(file)
        name = next(iter(values))
        spoilt = values | {name: values[name].clone()}
        spoilt[name].view(-1)[-1] = bad
        save_file(spoilt, file, {"format": "pt"})
        refused(path, rf"{file.parent.name} of .*no finite numbers")
        save_file(values, file, {"format": "pt"})


def test_weights_that_float16_cannot_hold(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evoken.models.runtimes.requirements.imitates", lambda _: False)
    path = folder("model")
    file = weights(path / "unet")
    values = load_file(file)
    values["conv_in.bias"][0] = 1e6
    save_file(values, file, {"format": "pt"})
    load_model(ModelSpec(str(path)))
    refused(path, "too large for float16.*float32", precision="float16")


# Safe


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "../evil.bin", "../vae/x.safetensors", "a\\b"]
)
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_an_index_that_names_other_files(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, part: str, name: str
) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    path = folder("model")
    file = weights(path / part)
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(file), name)}
    file.with_name(f"{file.name}.index.json").write_text(json.dumps(index))
    for missing in (False, True):
        if missing:
            file.unlink()
        refused(path, "may only name safetensors in its own folder")


def test_a_clip_with_such_an_index(folder: Callable[[str], Path]) -> None:
    path = folder("clip")
    index = {"weight_map": dict.fromkeys(load_file(path / "model.safetensors"), "x.bin")}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="may only name safetensors"):
        Clip.load(str(path))


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"]
)
def test_a_clip_that_is_not_whole(folder: Callable[[str], Path], name: str) -> None:
    path = folder("clip")
    (path / name).unlink()
    with pytest.raises(ModelError, match=f"clip.*({re.escape(name)}|no weights)"):
        Clip.load(str(path))


@pytest.mark.parametrize("name", ["none", "/no/such/clip", "a/b/c"])
def test_a_clip_that_is_nowhere_is_told_without_asking_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match="`clip` must be stickers, a folder or a hub id"):
        Clip.load(name)


@pytest.mark.parametrize(
    ("key", "value"),
    [("dtype", []), ("text_config", []), ("vision_config", {"num_attention_heads": 0})],
)
def test_a_clip_with_values_that_are_none(
    folder: Callable[[str], Path], key: str, value: object
) -> None:
    path = folder("clip")
    file = path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {key: value}))
    with pytest.raises(ModelError, match="clip"):
        Clip.load(str(path))
    file.write_text(json.dumps(config))
    words = json.loads((path / "tokenizer.json").read_text())  # its reader raises a bare Exception
    (path / "tokenizer.json").write_text(json.dumps(words | {"post_processor": 0.5}))
    with pytest.raises(ModelError, match="clip"):
        Clip.load(str(path))


def test_shards(folder: Callable[[str], Path], tiny_folder: Path) -> None:
    path = folder("model")
    file = weights(path / "unet")
    values = load_file(file)
    names = list(values)
    half = len(names) // 2
    entries: dict[str, str] = {}
    for i, own in enumerate((names[:half], names[half:]), 1):
        shard = f"diffusion_pytorch_model-0000{i}-of-00002.safetensors"
        save_file({n: values[n] for n in own}, file.with_name(shard), {"format": "pt"})
        entries |= dict.fromkeys(own, shard)
    file.unlink()
    index = {"metadata": {"total_size": 0}, "weight_map": entries}
    (path / "unet" / f"{file.name}.index.json").write_text(json.dumps(index))
    assert_same(load_model(ModelSpec(str(path))), load_model(str(tiny_folder / "model")))
    (path / "unet" / shard).unlink()
    refused(path, f"unet lacks .*{shard}")


# Sound, and read


@pytest.mark.parametrize("variant", ["fp16", "bf16"])
@pytest.mark.parametrize("some", ["all", "unet"])
def test_a_folder_with_only_a_variant(
    folder: Callable[[str], Path], tmp_path: Path, variant: str, some: str
) -> None:
    path = folder("model")
    dtype = torch.float16 if variant == "fp16" else torch.bfloat16
    expected = tmp_path / "expected"
    chosen = [p for p in path.glob("*/*.safetensors") if some in ("all", p.parent.name)]
    for file in chosen:
        values = {k: v.to(dtype) for k, v in load_file(file).items()}
        save_file(values, file.with_suffix(f".{variant}.safetensors"), {"format": "pt"})
        file.unlink()
    shutil.copytree(path, expected)
    for file in expected.glob(f"*/*.{variant}.safetensors"):
        file.rename(file.with_name(file.name.replace(f".{variant}", "")))
    assert_same(load_model(ModelSpec(str(path))), load_model(ModelSpec(str(expected))))


def test_parts_that_are_not_needed_may_be_gone(
    folder: Callable[[str], Path], tiny_folder: Path
) -> None:
    path = folder("model")
    change(
        path / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
        image_encoder=["transformers", "CLIPVisionModelWithProjection"],
        requires_safety_checker=True,
    )
    assert_same(load_model(ModelSpec(str(path))), load_model(str(tiny_folder / "model")))


def test_a_single_file_with_its_suffix_in_capitals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    pipe = tiny.pipeline()
    pipe.save_pretrained(tmp_path / "whole")
    file = ldm.save(pipe, tmp_path / "one.safetensors").rename(tmp_path / "ONE.SAFETENSORS")
    spec = ModelSpec(str(file), config=str(tmp_path / "whole"))
    assert_same(load_model(spec), load_model(ModelSpec(str(tmp_path / "whole"))))


# Something else


def tensors(**shapes: tuple[int, ...]) -> Callable[[Path], None]:
    return lambda file: save_file(
        {k.replace("__", "."): torch.zeros(v) for k, v in shapes.items()}, file
    )


OTHERS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "pointer": ("a.safetensors", lambda f: f.write_bytes(POINTER), "git-lfs pointer.*git lfs pull"),
    "page": ("a.safetensors", lambda f: f.write_bytes(PAGE), "is a web page"),
    "page as pickle": ("a.pt", lambda f: f.write_bytes(PAGE), "is a web page"),
    "page as weights": ("a.bin", lambda f: f.write_bytes(PAGE), "is a web page"),
    "kohya": ("a.safetensors", tensors(lora_unet_a__lora_down__weight=(4, 8)), "is a LoRA"),
    "peft": ("a.safetensors", tensors(unet__a__lora_A__weight=(4, 8)), "is a LoRA"),
    "lycoris": ("a.safetensors", tensors(lycoris_a__hada_w1_a=(4, 8)), "is a LoRA"),
    "word": ("a.safetensors", tensors(emb_params=(2, 768)), "learned word.*`word`"),
    "word of XL": ("a.safetensors", tensors(clip_l=(2, 768), clip_g=(2, 1280)), "learned word"),
    "word of diffusers": ("a.safetensors", tensors(disc=(768,)), "learned word"),
    "word as pickle": ("a.pt", lambda f: torch.save({"string_to_param": {}}, f), "learned word"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("with_config", [False, True])
def test_what_a_file_is(name: str, with_config: bool, tiny_folder: Path, tmp_path: Path) -> None:
    file, write, match = OTHERS[name]
    write(tmp_path / file)
    config = str(tiny_folder / "model") if with_config else ""
    refused(tmp_path / file, rf"{re.escape(file)} .*{match}|{match}", config=config)


def test_a_folder_of_a_lora(tmp_path: Path) -> None:
    tensors(unet__a__lora_A__weight=(4, 8))(tmp_path / "pytorch_lora_weights.safetensors")
    refused(tmp_path, "pytorch_lora_weights.*is a LoRA")


def test_a_folder_around_the_pipeline(folder: Callable[[str], Path]) -> None:
    path = folder("model")
    refused(path.parent, rf"no model_index\.json.*inside it: {re.escape(str(path))}")
    refused(path / "unet", r"no model_index\.json")


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    file = ldm.save(tiny.pipeline(), tmp_path / "one.safetensors")
    refused(tmp_path, rf"Give the file itself: {re.escape(str(file))}")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("StableDiffusionImg2ImgPipeline", "for image to image"),
        ("StableDiffusionXLInpaintPipeline", "for inpainting"),
        ("FluxFillPipeline", "for inpainting"),
        ("StableDiffusionControlNetPipeline", "with a ControlNet"),
    ],
)
def test_a_pipeline_for_something_else(folder: Callable[[str], Path], kind: str, what: str) -> None:
    path = folder("model")
    change(path / "model_index.json", _class_name=kind)
    refused(path, f"is a pipeline {what}.*{kind}.*text to image")


# The hub


def answer(status: int, **headers: str) -> Exception:
    """What the hub's client raises for an answer of the hub."""
    response = httpx.Response(
        status,
        headers={k.replace("_", "-"): v for k, v in headers.items()},
        request=httpx.Request(
            "HEAD", "https://huggingface.co/some/model/resolve/main/model_index.json"
        ),
    )
    try:
        hf_raise_for_status(response)
    except HfHubHTTPError as error:
        return error
    raise AssertionError


ANSWERS: dict[str, tuple[Exception, str]] = {
    "gated": (
        answer(403, X_Error_Code="GatedRepo"),
        "accepted its licence.*https://huggingface.co/some/model .*hf auth login",
    ),
    "gated, without a token": (
        answer(401, X_Error_Code="GatedRepo"),
        "accepted its licence.*hf auth login",
    ),
    "token": (
        answer(401, X_Error_Message="Invalid credentials in Authorization header"),
        "refuses your token.*hf auth login",
    ),
    "old token": (
        answer(401, X_Error_Message='User Access Token "mine" is expired'),
        "refuses your token.*hf auth login",
    ),
    "spelling": (answer(404, X_Error_Code="RepoNotFound"), "no repository 'some/model' on the hub"),
    "revision": (answer(404, X_Error_Code="RevisionNotFound"), "has no revision 'v2'"),
    "no pipeline": (answer(404, X_Error_Code="EntryNotFound"), "has no model_index.json"),
    "out of order": (answer(503), "out of order.*503.*this machine"),
    "forbidden": (answer(403), "does not give 'some/model' to you"),
    "too many": (answer(429), "too many requests"),
    "no network": (
        httpx.ConnectError("[Errno -3] Temporary failure in name resolution"),
        "no connection to the hub.*not on this machine.*name resolution.*folder",
    ),
    "slow network": (httpx.ConnectTimeout("timed out"), "no connection to the hub"),
}


@pytest.fixture
def hub_says(
    hub: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Exception], None]:
    """Let the hub's client raise this at every question, and the machine be online."""

    def says(error: Exception) -> None:
        def ask(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        for name in ("get_hf_file_metadata", "hf_hub_download", "model_info"):
            monkeypatch.setattr(f"evoken.models.hub.{name}", ask)

    return says


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_hub_answers(name: str, hub_says: Callable[[Exception], None]) -> None:
    error, match = ANSWERS[name]
    hub_says(error)
    found = refused("some/model@v2", match)
    assert "pipeline of diffusers" in found.fix or name != "no pipeline"
    with pytest.raises(ModelError) as caught:
        Clip.load("some/model@v2")
    if name != "no pipeline":
        assert str(caught.value) == str(found)


@pytest.mark.parametrize("name", ["out of order", "no network", "slow network", "too many"])
def test_what_was_fetched_before_is_used_when_the_hub_is_not_there(
    name: str,
    hub: Callable[[str], Path],
    hub_says: Callable[[Exception], None],
    tiny_folder: Path,
) -> None:
    shutil.copytree(tiny_folder / "model", hub("some/model"))
    hub_says(ANSWERS[name][0])
    assert_same(load_model("some/model"), load_model(str(tiny_folder / "model")))


def test_offline_is_said(hub: Callable[[str], Path]) -> None:
    refused("some/model", "not on this machine, and the hub's client is set to be offline")


def test_a_revision(hub: Callable[[str], Path], tiny_folder: Path) -> None:
    commit = "1" * 40
    first = shutil.copytree(tiny_folder / "second", hub("some/model"))
    shutil.copytree(tiny_folder / "model", first.parent / commit)
    (first.parent.parent / "refs" / "v2").write_text(commit)
    expected = load_model(str(tiny_folder / "model"))
    for name in ("some/model@v2", f"some/model@{commit}"):
        assert_same(load_model(name), expected)
        assert weights_hash(name) == weights_hash(str(tiny_folder / "model"))
    assert weights_hash("some/model") == weights_hash(str(tiny_folder / "second"))
    refused("some/model@v3", "not on this machine")


def test_a_variant_of_the_hub(
    hub: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tiny_folder: Path
) -> None:
    """It is found in the list of files, and only it is asked for, at the revision."""
    kept = shutil.copytree(tiny_folder / "model", hub("some/model"))
    for file in kept.glob("*/*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    names = [p.relative_to(kept).as_posix() for p in kept.rglob("*") if p.is_file()]
    siblings = [{"rfilename": name} for name in names]
    info = ModelInfo(
        id="some/model", siblings=siblings, private=False, downloads=0, likes=0, tags=[]
    )
    asked: list[Any] = []

    def download(repo: str, **wanted: Any) -> str:
        asked.append((repo, wanted["variant"], wanted["revision"], wanted["use_safetensors"]))
        return str(kept)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("evoken.models.hub.get_hf_file_metadata", lambda *_, **__: None)
    monkeypatch.setattr(
        "evoken.models.hub.hf_hub_download", lambda *_, **__: str(kept / "model_index.json")
    )
    monkeypatch.setattr("evoken.models.hub.model_info", lambda *_, **__: info)
    monkeypatch.setattr("diffusers.StableDiffusionPipeline.download", download)
    assert_same(load_model("some/model@v2"), load_model(str(tiny_folder / "model")))
    assert asked == [("some/model", "fp16", "v2", True)]


# Before and after


@pytest.mark.usefixtures("own_folder")
def test_pictures_are_looked_at_before_a_model_is_loaded(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    sheet = photos.parent / "edits.yaml"
    sheet.write_text(
        "- {init_img: disc/0.png, source_prompt: a, target_prompts: [b]}\n"
        "- {init_img: disc/bad.png, source_prompt: a, target_prompts: [b]}\n"
    )
    model = "/no/such/model"
    for pictures, match in ((photos, "is not an image"), ("nowhere", "does not exist")):
        with pytest.raises(ImageError, match=match):
            learn_into("run", pictures, LearnSettings(placeholder="<a>"), model)
        with pytest.raises(ImageError, match=match):
            edit_into("run", pictures, "a", "b", model)
    with pytest.raises(ImageError, match="is not an image"):
        edit_into("run", sheet, model=model)
    (photos / "bad.png").unlink()
    with pytest.raises(ModelError):
        learn_into("run", photos, LearnSettings(placeholder="<a>"), model)


@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize(("precision", "fix"), [("float32", "copy"), ("bfloat16", "float32")])
def test_pictures_without_numbers_are_not_given_out(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, precision: str, fix: str
) -> None:
    monkeypatch.setattr(
        LatentModel,
        "decode",
        lambda self, latents: torch.full((len(latents), 3, 16, 16), torch.nan),
    )
    model = load_model(ModelSpec(str(tiny_folder / "model"), precision=precision))
    with pytest.raises(
        ModelError, match=f"without finite numbers, computing in {precision}.*{fix}"
    ):
        draw(model, "a cat", count=1, steps=2)
    word = Word("<a>", torch.zeros(1, model.width))
    with pytest.raises(ModelError, match="without finite numbers"):
        images_of_each(model, "a <a>", [word], 1, 0)
    result = evoken("generate", "a cat", "--model", tiny_folder / "model", "--steps", 2)
    assert result.exit_code == 2 and "finite" in result.output
    assert not list(Path().rglob("*.png"))
