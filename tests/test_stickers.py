"""The sticker world and how its models are trained; the font and the names come from Debian."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evoken.pictures.masks import found_masks
from evoken.prompts import OBJECT_TEMPLATES
from stickers import (
    autoencoder,
    backgrounds,
    captions,
    data,
    glyphs,
    judge,
    styles,
    training,
    vocabulary,
    world,
)
from stickers.__main__ import EXAMPLES, write_examples
from stickers.muon import Muon, is_matrix, orthogonalize

INDEX = st.integers(0, 10**6)


@settings(max_examples=15)
@given(INDEX, INDEX)
def test_a_picture_is_a_function_of_seed_and_index(seed: int, index: int) -> None:
    first, again = world.sample(seed, index), world.sample(seed, index)
    assert np.array_equal(first.pixels, again.pixels)
    assert (first.caption, first.spec) == (again.caption, again.spec)
    assert first.pixels.shape == (64, 64, 3)
    assert first.pixels.dtype == np.uint8


@settings(max_examples=30)
@given(INDEX)
def test_captions_say_what_is_there(index: int) -> None:
    sample = world.sample(1, index)
    thing, style = sample.spec.things[0], sample.spec.style
    assert (thing.noun in sample.caption and thing.dye in sample.caption) or style in sample.caption
    assert "{" not in sample.caption


def test_the_world_is_as_large_as_promised() -> None:
    trained, held_out = world.objects(held_out=False), world.objects(held_out=True)
    assert len(trained) >= 200
    assert len(held_out) >= 40
    assert len(backgrounds.SCENES) >= 8
    assert len(styles.TRAINED) >= 8
    assert len(styles.HELD_OUT) >= 2
    assert len({o.noun for o in (*trained, *held_out)}) == len(trained) + len(held_out)


def test_models_never_see_what_is_held_out() -> None:
    hidden = {o.noun for o in world.objects(held_out=True)}
    for i in range(400):
        sample = world.sample(world_seed := 3, i)
        assert not hidden & {t.noun for t in sample.spec.things}, (world_seed, i)
        assert sample.spec.style not in styles.HELD_OUT
        assert not any(style in sample.caption for style in styles.HELD_OUT)


def test_the_judge_knows_everything() -> None:
    assert set(judge.NAMES["object"]) == {o.noun for o in glyphs.load_objects()}
    assert set(styles.STYLES) < set(judge.NAMES["style"])
    assert {*backgrounds.PLAIN, *backgrounds.SCENES} == set(judge.NAMES["background"])


@pytest.mark.parametrize("style", sorted(styles.STYLES))
def test_a_style_changes_a_picture_and_keeps_its_shape(style: str) -> None:
    spec = world.Spec((world.Thing("cat"),), "in a meadow")
    plain = world.render(spec, world.generator(0, 0))
    styled = styles.apply(style, plain)
    assert styled.shape == plain.shape
    assert styled.dtype == np.uint8
    assert np.abs(styled.astype(int) - plain).mean() > 2


@pytest.mark.parametrize("name", ["otter", "blueprint"])
def test_a_concept_is_several_pictures_of_one_thing(name: str) -> None:
    pictures = world.concept(name)
    assert len(pictures) == 5
    assert len({p.tobytes() for p in pictures}) == 5
    assert all(np.array_equal(a, b) for a, b in zip(pictures, world.concept(name), strict=True))


def test_captions_say_what_a_style_was_laid_over() -> None:
    assert world.concept_captions("otter", 3) == [""] * 3
    pictures = world.concept("blueprint", 4, seed=7)
    for i, caption in enumerate(world.concept_captions("blueprint", 4, seed=7)):
        noun = caption.split(" ", 1)[1]
        assert caption == captions.with_article(noun)
        same = 0
        for ground in (*backgrounds.PLAIN, *backgrounds.SCENES):
            rng = np.random.default_rng(np.random.SeedSequence([7, i, *b"blueprint"]))
            spec = world.Spec((world.Thing(noun),), ground, "blueprint")
            same += np.array_equal(world.render(spec, rng), pictures[i])
        assert same


def test_examples_are_of_the_world(tmp_path: Path) -> None:
    write_examples(tmp_path)
    written = [path for path in tmp_path.rglob("*.*") if path.is_file()]
    assert len(written) == 15 and (tmp_path / "blueprint" / "2.txt").read_text() == "a cat\n"
    for path in written:
        assert (EXAMPLES / path.relative_to(tmp_path)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["cat", "pixel art", "nothing"])
def test_only_what_is_held_out_is_a_concept(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        world.concept(name)


def test_masks_show_where_the_things_are() -> None:
    """Outside of the mask of a picture on a plain colour there is nothing but that colour."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        things = (world.Thing("cat"), world.Thing("rose"))[: 1 + seed % 2]
        pixels, mask = world.render_with_mask(world.Spec(things, "blue background"), rng)
        again = world.render(world.Spec(things, "blue background"), np.random.default_rng(seed))
        assert np.array_equal(pixels, again) and mask.dtype == np.uint8
        outside = pixels[mask == 0].astype(int)
        assert np.ptp(outside, axis=0).max() == 0 and 0.1 < (mask > 127).mean() < 0.7
        assert abs(pixels[mask == 255].astype(int) - outside[0]).max(1).mean() > 30


def test_things_are_found_about_where_they_are() -> None:
    pairs = [
        pair
        for thing in world.objects(held_out=True)[::4]
        for pair in world.concept_with_masks(thing.noun, 2, 5)
    ]
    images = autoencoder.to_images(np.stack([p for p, _ in pairs]), torch.device("cpu"))
    true = np.stack([mask > 127 for _, mask in pairs])
    found = found_masks(images)[:, 0].numpy() > 0.5
    both, either = (found & true).sum((1, 2)), (found | true).sum((1, 2))
    assert np.mean(both / either) > 0.75 and np.median(both / either) > 0.85


def test_a_rendered_data_set_holds_the_world(tmp_path: Path) -> None:
    data.render_dataset(tmp_path / "data", 4, 6, processes=1)
    found = data.Dataset(tmp_path / "data")
    for i in range(6):
        sample = world.sample(4, i)
        assert np.array_equal(found.pixels[i], sample.pixels)
        assert found.captions[i] == sample.caption
        assert found.rows[i]["background"] == sample.spec.background


def test_the_tokenizer_reads_back_what_it_wrote() -> None:
    captions = [world.sample(2, i).caption for i in range(300)]
    tokenizer = vocabulary.train_tokenizer(captions)
    assert len(tokenizer) <= vocabulary.MAX_TOKENS
    for text in (*captions[:50], *(t.format("zebra") for t in OBJECT_TEMPLATES)):
        ids = tokenizer(text).input_ids
        read = tokenizer.decode(ids, skip_special_tokens=True)
        assert read.replace(" ", "") == text.replace(" ", "")
        assert len(ids) <= vocabulary.MAX_LENGTH
        assert tokenizer.unk_token_id not in ids[:-1]


def test_the_same_captions_make_the_same_tokenizer() -> None:
    captions = [world.sample(2, i).caption for i in range(40)]  # of few, many pairs are as frequent
    made = [vocabulary.train_tokenizer(captions).backend_tokenizer.to_str() for _ in range(6)]
    assert len(set(made)) == 1


@torch.no_grad()
def test_a_finished_autoencoder_has_one_small_variance_and_its_means() -> None:
    model = autoencoder.build()
    pictures = np.stack([world.sample(5, i).pixels for i in range(3)])
    images = autoencoder.to_images(pictures, torch.device("cpu"))
    before = model.encode(images).latent_dist
    autoencoder.fix_variance(model)
    after = model.encode(images).latent_dist
    assert before.logvar.unique().numel() > 1
    assert after.logvar.unique().tolist() == [autoencoder.LOG_VARIANCE]
    assert torch.equal(after.mode(), before.mode())


@settings(max_examples=20)
@given(st.integers(16, 40), st.integers(16, 40), INDEX)
def test_muon_makes_updates_orthogonal(rows: int, columns: int, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    singular = torch.linalg.svdvals(orthogonalize(matrix))
    assert singular.max() < 1.35
    assert singular.median() > 0.6


def test_muon_lowers_a_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(16, 16, generator=generator)
    weight = nn.Parameter(torch.zeros(16, 16))
    optimizer = Muon([weight], lr=0.05, weight_decay=0.0)
    before = float(target.square().mean())
    for _ in range(80):
        optimizer.zero_grad()
        (weight - target).square().mean().backward()
        optimizer.step()
    assert float((weight - target).square().mean().detach()) < 0.3 * before


class Toy(nn.Module):
    """Large enough for both optimizers: a matrix for Muon, a bias for AdamW."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def toy_loss(model: nn.Module, generator: torch.Generator, batch: int) -> training.Loss:
    x = torch.randn(batch, 16, generator=generator)
    loss = (model(x) - x.flip(1)).float().square().mean()
    return loss, {"twice": 2 * float(loss.detach())}


TOY = training.Settings(samples=160, batch=8, learning_rate=1e-2, warmup_steps=2)


def train_toy(folder: Path, minutes: float = 1.0) -> dict[str, Tensor]:
    model = training.train("toy", Toy(), toy_loss, TOY, folder, torch.device("cpu"), minutes)
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def test_training_resumes_bit_for_bit(tmp_path: Path, monkeypatch: Any) -> None:
    whole = train_toy(tmp_path / "whole")
    stopped = Toy()
    assert is_matrix("layer.weight", stopped.layer.weight)

    def fails_at_half(model: nn.Module, generator: torch.Generator, batch: int) -> training.Loss:
        if generator.initial_seed() == training.step_generator(0, 10).initial_seed():
            raise KeyboardInterrupt
        return toy_loss(model, generator, batch)

    monkeypatch.setattr(training, "SAVE_SECONDS", -1)  # after every step
    with pytest.raises(KeyboardInterrupt):
        training.train("toy", stopped, fails_at_half, TOY, tmp_path / "parts", torch.device("cpu"))
    resumed = train_toy(tmp_path / "parts")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_training_goes_on_from_shipped_weights(tmp_path: Path) -> None:
    model = Toy()
    nn.init.constant_(model.layer.bias, 0.5)
    training.start_from(model, tmp_path / "toy.safetensors")
    found = training.restore(Toy(), tmp_path / "toy.safetensors")
    assert torch.equal(found.layer.bias, model.layer.bias)  # type: ignore[union-attr]
    assert train_toy(tmp_path)["layer.bias"].mean() > 0.1


def test_the_cost_of_a_stage_is_in_its_log(tmp_path: Path) -> None:
    assert training.cost(tmp_path, "toy") == {"samples": 0, "minutes": 0.0}
    train_toy(tmp_path)
    assert training.cost(tmp_path, "toy")["samples"] == TOY.samples
