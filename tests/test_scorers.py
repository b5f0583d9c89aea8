"""Networks of users' folders that look at pictures: small ones of the real classes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate, normalize
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from evoken.errors import ModelError
from evoken.models.image_encoder import KINDS
from evoken.models.load import load_scorer

TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = {**TOWER, "vocab_size": 20, "max_position_embeddings": 8}
SMALL = {**TOWER, "image_size": 32, "patch_size": 8}
PACKED = {**TOWER, "num_patches": 16, "patch_size": 4}


def made(name: str) -> Any:
    torch.manual_seed(0)
    if name == "dinov2":
        return Dinov2Model(Dinov2Config(**TOWER, image_size=42, patch_size=14, mlp_ratio=2))
    if name == "dinov2_with_registers":
        config = Dinov2WithRegistersConfig(
            **TOWER, image_size=42, patch_size=14, mlp_ratio=2, num_register_tokens=3
        )
        return Dinov2WithRegistersModel(config)
    if name == "dinov3_vit":
        return DINOv3ViTModel(DINOv3ViTConfig(**TOWER, patch_size=16, num_register_tokens=4))
    if name == "siglip":
        return SiglipModel(SiglipConfig(text_config=TEXT, vision_config=SMALL))
    if name == "siglip_vision_model":
        return SiglipVisionModel(SiglipVisionConfig(**SMALL))
    if name == "siglip2":
        return Siglip2Model(Siglip2Config(text_config=TEXT, vision_config=PACKED))
    if name == "clip":
        return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=SMALL, projection_dim=8))
    return ViTModel(ViTConfig(**SMALL), add_pooling_layer=False)


MADE = ("dinov2", "dinov2_with_registers", "dinov3_vit", "siglip", "siglip_vision_model")
MADE = (*MADE, "siglip2", "clip", "vit")
ACROSS = {"dinov2": 16, "dinov2_with_registers": 16, "dinov3_vit": 14}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made("dinov2").save_pretrained(tmp_path / "scorer")
    return tmp_path / "scorer"


def pictures(count: int = 3, side: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, side, side, generator=generator) * 2 - 1


def squares(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Row by row, the colours of each pixel side by side, as SigLIP 2's processor makes them."""
    return torch.stack(
        [
            pixels[:, y : y + size, x : x + size].permute(1, 2, 0).flatten()
            for y in range(0, pixels.shape[1], size)
            for x in range(0, pixels.shape[2], size)
        ]
    )


@pytest.mark.parametrize("name", MADE)
def test_every_kind_gives_features_of_pictures_and_patches(name: str, tmp_path: Path) -> None:
    model = made(name).eval()
    model.save_pretrained(tmp_path)
    scorer = load_scorer(str(tmp_path))
    across = ACROSS.get(name, 4)
    patches, whole = scorer.patch_features(pictures()), scorer.image_features(pictures())
    assert patches.shape == (3, across, across, 16) and whole.shape == (3, 16)
    torch.testing.assert_close(patches.norm(dim=-1), torch.ones(3, across, across))
    torch.testing.assert_close(whole.norm(dim=-1), torch.ones(3))
    # As the classes themselves give them, of pictures as they want them.
    side = scorer.side  # type: ignore[attr-defined]
    kind = KINDS[name]
    mean, std = (torch.tensor(v)[:, None, None] for v in (kind.mean, kind.std))
    resized = interpolate(pictures(), (side, side), mode="bicubic", antialias=True)
    pixels = ((resized.clamp(-1, 1) + 1) / 2 - mean) / std
    vision = getattr(model, "vision_model", model) if kind.tower else model
    given: dict[str, Any] = {"pixel_values": pixels}
    if name == "siglip2":
        given = {
            "pixel_values": torch.stack([squares(p, 4) for p in pixels]),
            "pixel_attention_mask": torch.ones(3, 16, dtype=torch.int32),
            "spatial_shapes": torch.full((3, 2), 4),
        }
    with torch.no_grad():
        hidden = vision(**given).last_hidden_state
    found = normalize(hidden[:, -(across**2) :], dim=-1).unflatten(1, (across, across))
    torch.testing.assert_close(patches, found, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["siglip", "clip", "vit"])
def test_a_size_that_is_no_multiple_of_the_patches(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network for one size gets that size, and leaves out the rest itself."""
    monkeypatch.setitem(SMALL, "image_size", 30)
    model = made(name).eval()
    model.save_pretrained(tmp_path)
    scorer = load_scorer(str(tmp_path))
    patches = scorer.patch_features(pictures())
    assert patches.shape == (3, 3, 3, 16) and scorer.image_features(pictures()).shape == (3, 16)
    mean, std = (torch.tensor(v)[:, None, None] for v in (KINDS[name].mean, KINDS[name].std))
    resized = interpolate(pictures(), (30, 30), mode="bicubic", antialias=True)
    with torch.no_grad():
        vision = getattr(model, "vision_model", model)
        hidden = vision(((resized.clamp(-1, 1) + 1) / 2 - mean) / std).last_hidden_state
    found = normalize(hidden[:, -9:], dim=-1).unflatten(1, (3, 3))
    torch.testing.assert_close(patches, found, atol=1e-5, rtol=1e-4)


def test_a_patch_is_where_it_is_in_the_picture(tmp_path: Path) -> None:
    """A network without layers sees each patch alone."""
    config = ViTConfig(**{**SMALL, "num_hidden_layers": 0})
    torch.manual_seed(0)
    ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    scorer = load_scorer(str(tmp_path))
    changed = pictures(1, 32)
    changed[:, :, 8:16, 24:] = 1.0
    moved = (scorer.patch_features(changed) - scorer.patch_features(pictures(1, 32))).abs().sum(-1)
    assert moved[0].nonzero().tolist() == [[1, 3]]


def test_pixels_are_scaled_as_the_folder_says(folder: Path) -> None:
    plain = load_scorer(str(folder)).image_features(pictures())
    about = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    assert torch.equal(load_scorer(str(folder)).image_features(pictures()), plain)
    (folder / "preprocessor_config.json").write_text(json.dumps(about | {"image_mean": [0, 0, 0]}))
    assert not torch.equal(load_scorer(str(folder)).image_features(pictures()), plain)
    for wrong in ({"image_std": [0, 1, 1]}, {"image_mean": "x"}, {"image_mean": [1, 2]}):
        (folder / "preprocessor_config.json").write_text(json.dumps(about | wrong))
        with pytest.raises(ModelError, match="must be three numbers"):
            load_scorer(str(folder))


@pytest.mark.parametrize("said", ["resnet", "", None, 3])
def test_other_kinds_are_refused(folder: Path, said: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": said}))
    with pytest.raises(ModelError, match=r"must be of one of the kinds dinov2, .*Give the folder"):
        load_scorer(str(folder))


def test_nothing_that_is_no_folder_is_taken(tmp_path: Path) -> None:
    for name in (tmp_path / "nowhere", tmp_path, "facebook/dinov2-small"):
        with pytest.raises(ModelError, match=r"`scorer` must be a folder"):
            load_scorer(str(name))


def test_weights_must_be_safetensors_and_whole(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no weights in safetensors"):
        load_scorer(str(folder))
    fewer = {k: v for k, v in weights.items() if "layer.1" not in k}
    save_file(fewer, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="does not hold all of its weights"):
        load_scorer(str(folder))
    bad = {k: torch.full_like(v, float("nan")) for k, v in weights.items()}
    save_file(bad, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="no finite numbers"):
        load_scorer(str(folder))
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match="git-lfs"):
        load_scorer(str(folder))


def test_code_in_the_folder_is_never_run(folder: Path) -> None:
    (folder / "own.py").write_text("raise SystemExit('ran')\n")
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": own}))
    assert load_scorer(str(folder)).image_features(pictures()).shape == (3, 16)


def test_a_configuration_that_makes_no_model_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for wrong in ({"hidden_size": 1 << 40}, {"patch_size": 0}, {"num_hidden_layers": "two"}):
        (folder / "config.json").write_text(json.dumps(config | wrong))
        with pytest.raises(ModelError):
            load_scorer(str(folder))
