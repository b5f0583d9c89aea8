"""The shipped sticker models: standard classes, small, and good enough to learn on."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from typer.testing import CliRunner

import evoken
from evoken.cli.app import app
from evoken.models.clip import Clip
from evoken.models.embedded import EMBEDDED, STICKERS, sticker_note
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.families.stable_diffusion_3 import StableDiffusion3
from evoken.models.judge import Judge
from evoken.models.load import load_clip, load_judge
from evoken.models.runtimes.requirements import imitates
from evoken.pictures.scoring import LABELS, scores_of, sentences
from evoken.prompts import KINDS, OTHER
from stickers import denoiser, flow, training, world
from stickers.autoencoder import to_images
from stickers.export import costs, unpack
from tests.commands import ONE_SENTENCE

PHOTOS = Path(__file__).parent.parent.parent / "shared" / "photos"


# What they are good at shows in any precision.
FASTEST = "float32" if imitates(evoken.ModelSpec(precision="bfloat16")) else "bfloat16"


@pytest.fixture(scope="module")
def stickers() -> StableDiffusion:
    return evoken.load_model(evoken.ModelSpec(precision=FASTEST))


@pytest.fixture(scope="module")
def stickers_flow() -> StableDiffusion3:
    return evoken.load_model(evoken.ModelSpec("stickers-flow", precision=FASTEST))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.fixture(scope="module")
def sticker_clip() -> Clip:
    return load_clip()


def renders(seed: int, count: int, held_out: bool) -> tuple[torch.Tensor, list[world.Sample]]:
    samples = [world.sample(seed, i, world.objects(held_out)) for i in range(count)]
    images = to_images(np.stack([s.pixels for s in samples]), torch.device("cpu"))
    return images, samples


def test_the_flow_model_is_what_any_tool_can_load(
    stickers_flow: StableDiffusion3, tmp_path: Path
) -> None:
    """With nothing but the folder, and with the zeros that the pipeline puts in T5's place."""
    folder = evoken.export_embedded("stickers-flow", tmp_path / "flow")
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline.transformer, SD3Transformer2DModel)
    prompts = ["a photo of a cat on the beach", "a red rose in space"]
    tokens, _, pooled, _ = pipeline.encode_prompt(prompts, None, None)
    assert tokens[:, 32:].abs().max() == 0
    hidden = stickers_flow.condition(prompts)
    torch.testing.assert_close(tokens[:, :32], hidden[:, :-1], rtol=0.1, atol=0.1)  # bfloat16
    torch.testing.assert_close(pooled, hidden[:, -1], rtol=0.1, atol=0.05)
    noise = stickers_flow.noise([0, 1])
    theirs = pipeline(prompts, latents=noise, num_inference_steps=8, output_type="pt").images
    ours = stickers_flow.generate(hidden, [0, 1], steps=8, guidance=7.0)
    assert (theirs * 2 - 1 - ours).abs().mean() < 0.1


def test_the_flow_model_draws_what_was_asked_for(
    stickers_flow: StableDiffusion3, judge: Judge
) -> None:
    nouns = [thing.noun for thing in world.objects(held_out=False)][::6]
    prompts = [f"a photo of a {noun} on the beach" for noun in nouns]
    images = stickers_flow.generate(stickers_flow.condition(prompts), range(len(nouns)), 20, 5.0)
    things, places = judge.answers(images), judge.answers(images, "background")
    assert np.mean([a == n for a, n in zip(things, nouns, strict=True)]) >= 0.6
    assert np.mean([p == "on the beach" for p in places]) >= 0.9


def test_the_text_encoder_of_the_denoiser_is_that_of_clip(sticker_clip: Clip) -> None:
    stickers = evoken.load_model()
    ids = torch.tensor([stickers.text.place("a photo of a cat", {})[0]])
    with torch.no_grad():
        ours = stickers.text.encoder(ids).pooler_output
        theirs = sticker_clip.model.text_model(input_ids=ids).pooler_output
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_their_training_can_go_on(tmp_path: Path) -> None:
    unpack(STICKERS, tmp_path)
    begun = {
        "stickers": training.restore(denoiser.build(), tmp_path / "denoiser.safetensors"),
        "stickers-flow": training.restore(flow.build(), tmp_path / "flow.safetensors"),
    }
    for name, restored in begun.items():
        weights = restored.state_dict()
        shipped = dict(evoken.load_model(evoken.ModelSpec(name)).denoiser.named_parameters())
        assert all(torch.equal(weights[key], weight) for key, weight in shipped.items())
    assert costs(tmp_path) == json.loads((STICKERS / "training.json").read_text())


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """torch computes with so many; all other tests leave the second core to the other half."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_the_batch_changes_no_bit_of_them(precision: str, threads: int) -> None:
    model = evoken.load_model(evoken.ModelSpec(precision=precision))
    hidden = model.condition(["a cat in space", "an owl"]).repeat(10, 1, 1)
    latents, t = model.noise(range(20)), torch.linspace(0, 1, 20)
    found = []
    for batch in (3, 16, 64):
        model.spec = dataclasses.replace(model.spec, batch=batch)
        found.append(model.denoise(latents, t, hidden))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])


def test_the_autoencoder_keeps_pictures_of_things_it_never_saw(stickers: StableDiffusion) -> None:
    images, _ = renders(31, 48, held_out=True)
    error = (stickers.decode(stickers.encode(images)) - images).square().mean((1, 2, 3))
    assert (10 * torch.log10(4 / error)).mean() > 25.5


def test_clip_finds_the_caption_of_a_picture(sticker_clip: Clip) -> None:
    images, samples = renders(32, 100, held_out=False)
    texts = sticker_clip.text_features([s.caption for s in samples])
    scores = sticker_clip.image_features(images) @ texts.T
    assert (scores.argmax(1) == torch.arange(100)).float().mean() > 0.75


def test_the_judge_knows_real_renders(judge: Judge) -> None:
    for held_out in (False, True):
        images, samples = renders(33, 150, held_out)
        single = [i for i, s in enumerate(samples) if len(s.spec.things) == 1]
        found = judge.answers(images[single])
        right = [a == samples[i].spec.things[0].noun for a, i in zip(found, single, strict=True)]
        assert np.mean(right) > 0.9


def test_the_judge_sees_two_things_and_no_second_where_there_is_one(judge: Judge) -> None:
    nouns = [o.noun for o in world.objects(held_out=True)][::3]
    pixels = []
    for i, noun in enumerate(nouns):
        things = (world.Thing(noun), world.Thing(OTHER))[:: 1 if i % 2 else -1]
        spec = world.Spec(things, "in space" if i % 3 else "white background", "", i % 4 > 0)
        pixels.append(world.render(spec, world.generator(3, i)))
    both = judge.things(to_images(np.stack(pixels), torch.device("cpu")))
    assert np.mean([{noun, OTHER} <= seen for noun, seen in zip(nouns, both, strict=True)]) > 0.9
    alone = np.stack([world.concept(noun, 1, 3)[0] for noun in nouns])
    seen = judge.things(to_images(alone, torch.device("cpu")))
    assert np.mean([OTHER in things for things in seen]) < 0.1
    assert np.mean([noun in things for noun, things in zip(nouns, seen, strict=True)]) > 0.9


def test_pictures_that_show_what_they_should_score_high_and_others_low(
    judge: Judge, sticker_clip: Clip
) -> None:
    """Real renders in place of a word's pictures: all scores of a word that is perfect."""
    row, places = KINDS["object"], judge.names["background"]

    def rendered(template: str, noun: str) -> torch.Tensor:
        things: tuple[world.Thing, ...] = (world.Thing(noun),)
        if template == row.beside:
            things = (*things, world.Thing(OTHER))
        if template == row.recoloured:
            things = (world.Thing(noun, "blue"),)
        place = next((p for p in places if p in template), "white background")
        style = next((s for s in judge.names["style"] if s and s in template), "")
        spec = world.Spec(things, place, style)
        pixels = [world.render(spec, world.generator(9, i)) for i in range(6)]
        return to_images(np.stack(pixels), torch.device("cpu"))

    images = to_images(np.stack(world.concept("otter", 5)), torch.device("cpu"))
    found = {}
    for noun in ("otter", "teapot"):
        pictures = {template: rendered(template, noun) for template in sentences("object", True)}
        found[noun] = scores_of(pictures, sticker_clip, images, "object", judge, "otter").found()
        assert found[noun].keys() == LABELS.keys() - {"thing"}
        assert found[noun]["scene"].value > 0.9 and found[noun]["scene"].n == 30
        # Of a flat drawing, an oil painting is hardly another picture.
        assert found[noun]["style"].value > 0.6 and found[noun]["style"].n == 18
    own, other = found["otter"], found["teapot"]
    assert own["judge"].value == 1 > 0 == other["judge"].value
    assert own["both"].value > 0.8 and own["blue"].value > 0.8
    assert other["both"].value == other["blue"].value == 0
    for name in ("concept", "beside", "recoloured", "reconstruction"):
        assert own[name].value > other[name].value + 0.05, name
    assert own["concept"].low > other["concept"].high


def test_what_is_drawn_is_what_was_asked_for(stickers: StableDiffusion, judge: Judge) -> None:
    nouns = [o.noun for o in world.objects(held_out=False)][::8]
    prompts = [f"a photo of a {noun} on a blue background" for noun in nouns]
    images = stickers.generate(stickers.condition(prompts), range(len(prompts)), 25, 4.0)
    things, places = judge.answers(images), judge.answers(images, "background")
    assert np.mean([a == b for a, b in zip(things, nouns, strict=True)]) > 0.7
    assert np.mean([a == "blue background" for a in places]) > 0.9


def test_a_thing_never_seen_is_learned(
    stickers: StableDiffusion, judge: Judge, sticker_clip: Clip
) -> None:
    images = to_images(np.stack(world.concept("ladybug")), torch.device("cpu"))
    settings = evoken.preset("default", placeholder="<new>", calls=4_000)
    steps = list(evoken.learn(settings, stickers, images, sticker_clip))
    learner, start = steps[-1][0], steps[0][1]
    assert learner.best_validation < 0.98 * start.validation
    shares = [
        judge.share(
            evoken.draw(stickers, "a photo of a <new>", word, 16, seed=1).images,
            "ladybug",
        )
        for word in (learner.start, learner.word)
    ]
    assert shares[1] > shares[0] + 0.2


def test_a_word_is_learned_on_the_flow_model_with_nothing_else_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = Path(__file__).parent.parent / "examples" / "otter"
    command = ["learn", str(images), "--model", "stickers-flow", "--calls", "700", *ONE_SENTENCE]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "runs" / "otter" / "report.html").exists()


@pytest.mark.skipif(not PHOTOS.exists(), reason="the photographs are not beside this clone")
@pytest.mark.parametrize("name", ["teapot", "cat2"])
def test_real_photographs_become_words(
    stickers: StableDiffusion, sticker_clip: Clip, name: str
) -> None:
    images = evoken.load_images(PHOTOS / name, stickers.size).images
    settings = evoken.preset("default", placeholder="<photo>", calls=1_200)
    losses = [r.validation for _, r in evoken.learn(settings, stickers, images, sticker_clip)]
    assert min(losses) < losses[0]


@pytest.mark.skipif(not PHOTOS.exists(), reason="the photographs are not beside this clone")
@pytest.mark.parametrize("name", ["backpack_dog", "cat2", "dog6", "teapot", "vase"])
def test_photographs_are_no_stickers(name: str) -> None:
    found = evoken.load_images(PHOTOS / name, 64)
    for model in EMBEDDED:
        note = sticker_note(model, found.images, [min(s) for s in found.sizes])
        assert "photographs" in note and model in note and "`name`" in note
    assert not sticker_note("some/model", found.images, [min(s) for s in found.sizes])


def test_drawings_and_what_the_models_draw_are_stickers(stickers: StableDiffusion) -> None:
    samples = [world.concept(name) for name in ("otter", "blueprint", "teapot", "night vision")]
    for pictures in samples:
        images = to_images(np.stack(pictures), torch.device("cpu"))
        assert not sticker_note("stickers", images, [512] * len(images))
    drawn = evoken.draw(stickers, "a photo of a crown in a room", count=3, steps=10)
    assert not sticker_note("stickers", drawn.images, [64] * 3)


@pytest.mark.skipif(not PHOTOS.exists(), reason="the photographs are not beside this clone")
def test_photographs_are_noted_before_the_start_and_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = PHOTOS / "cat2" / "00.jpg"
    small = ["--steps", "2", "--last", "1", "--iterations", "0", "--clip", "stickers"]
    asked = ["edit", str(photo), "--from", "a cat", "--to", "a dog", "--output", "runs/e", *small]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "with --model" in result.output.splitlines()[0]
    assert "<code>--model</code>" in (tmp_path / "runs/e/report.html").read_text()
