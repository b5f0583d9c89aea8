"""Where an edit is: the mask that a model finds, and what stays outside it."""

import html
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor

import evoken
from evoken.errors import SettingError
from evoken.flowopt.edit import Editor, Task
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.inversion import Inverted, inverted, renewed, starting_point
from evoken.flowopt.mask import LEVELS, Masked, _middle, found_mask, of_latents, of_pictures, soft
from evoken.flowopt.sampler import ModelSampler
from evoken.flowopt.settings import STARTS, flowopt_preset
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.families.stable_diffusion_3 import StableDiffusion3
from evoken.pictures.frame import frame_of
from evoken.spec import ModelSpec
from tests import tiny
from tests.commands import evoken as command
from tests.commands import files, refused

pytestmark = pytest.mark.usefixtures("own_folder")
TURN = ("--from", "a cat", "--to", "a dog")


@pytest.fixture
def flow() -> StableDiffusion3:
    return StableDiffusion3(tiny.flow_pipeline(), ModelSpec("tiny"), t5_tokens=0)


@dataclass
class Pulled:
    """A sampler whose slope is a push by the conditioning, the same at every level."""

    levels: tuple[float, ...] = tuple(i / 8 for i in range(8, -1, -1))
    start_scale: float = 1.0
    calls: int = 0
    asked: list[float] = field(default_factory=list)

    def __call__(self, latents: Tensor, conditioning: Tensor) -> Tensor:
        return latents - conditioning

    def slope(self, x: Tensor, level: float, conditioning: Tensor) -> Tensor:
        self.calls += len(x)
        self.asked.append(level)
        return conditioning.expand_as(x)

    def rows(self, conditioning: Tensor, rows: Tensor) -> Tensor:
        return conditioning


def way_of(sampler: Pulled, data: Tensor) -> Inverted:
    return inverted("euler", sampler, data, torch.zeros_like(data))


def region(side: int, width: int) -> Tensor:
    """1 x 1 x side x side, 1 in a square at the top left."""
    found = torch.zeros(1, 1, side, side)
    found[..., :width, :width] = 1
    return found


def test_the_mask_is_where_two_prompts_differ() -> None:
    sampler, where = Pulled(), region(32, 12)
    data = torch.zeros(1, 4, 32, 32)
    weak = 0.1 * torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = found_mask(sampler, way_of(sampler, data), weak, 5 * where + weak.flip(3))
    assert mask.shape == where.shape
    assert mask[..., :10, :10].min() > 0.95
    assert mask[..., 15:, 15:].max() < 0.05
    assert len(sampler.asked) - 8 == 2 * LEVELS  # the way up had 8


@pytest.mark.parametrize("width", [2, 4, 12])  # a two hundred and fiftieth, a sixtieth, a seventh
def test_what_is_to_stay_is_black(width: int) -> None:
    """Also where less than a tenth is to change."""
    noise = 0.05 * torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(3))
    where = region(32, width)
    mask = soft(where + noise)
    far = F.max_pool2d(where, 5, 1, 2) == 0
    assert mask[far].max() == 0  # exactly: the picture's own pixels stay there
    assert mask[where > 0].max() > 0.9
    if width == 12:
        kept = frame_of("whole", (32, 32), 32).mask_back(of_pictures(mask, 32))
        assert np.asarray(kept)[20:, 20:].max() == 0


def test_where_everything_is_to_change_the_mask_is_everything() -> None:
    gap = 3 + torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    assert soft(gap).min() > 0.9
    assert soft(torch.zeros(1, 4, 16, 16)).max() == 0  # and nothing, where prompts are the same


def test_what_the_picture_was_drawn_out_with_is_in_no_mask() -> None:
    gap, seen = torch.ones(1, 4, 16, 16), region(16, 8)
    gap[..., 8:] = 100  # whatever is there
    mask = soft(gap, seen)
    assert mask[..., 8:].max() == 0 and mask[..., :8, :8].min() > 0.9


@pytest.mark.parametrize("size", [(300, 200), (1600, 900), (1000, 40), (40, 1000), (64, 48)])
@pytest.mark.parametrize("cells", [8, 64])  # 64 are smoothed
def test_a_mask_goes_on_to_the_edges_of_a_picture_of_any_shape(
    size: tuple[int, int], cells: int
) -> None:
    """Whatever share of a latent its edge is in, on the way to the file and back."""
    frame = frame_of("whole", size, 8 * cells)
    latents = torch.zeros(1, 4, cells, cells)
    seen = of_latents(frame.seen, latents)
    gap = torch.where(seen > 0, torch.ones_like(latents), 100)  # uniform in the picture
    mask = of_pictures(soft(gap, seen), frame.side, frame.seen)
    assert torch.equal(mask > 0, frame.seen > 0)
    kept = frame.mask_back(mask)
    assert np.asarray(kept).min() > 250
    again = of_latents(frame.mask(kept), latents, frame.seen)
    assert again[seen > 0].min() > 0.98 and again[seen == 0].max() == 0


def test_packed_latents_have_a_mask_of_their_tokens() -> None:
    gap = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    packed = gap.flatten(2).mT
    assert torch.equal(soft(packed), soft(gap).flatten(2).mT)
    with pytest.raises(SettingError, match="square picture"):
        soft(packed[:, :60])
    with pytest.raises(SettingError, match=r"N x C x h x w.* 5 dimensions"):
        soft(gap[:, :, None])  # of a video pipeline


@pytest.mark.parametrize(("steps", "skipped"), [(1, 0), (2, 0), (4, 0), (15, 0), (12, 3), (1, 9)])
def test_prompts_are_compared_in_the_middle_half_of_the_schedule(steps: int, skipped: int) -> None:
    places = _middle(steps, skipped)
    assert 1 <= len(places) <= LEVELS and all(0 <= place < steps for place in places)
    if skipped < 4:
        assert all(0.2 <= (place + skipped + 0.5) / (steps + skipped) <= 0.8 for place in places)


def half_masked(family: str, flow: StableDiffusion3) -> tuple[Any, ...]:
    """A model, its sampler, data, source and target of two pictures, and a mask of their left."""
    model: Any = flow
    if family == "diffusion":
        model = StableDiffusion(tiny.pipeline(), ModelSpec("tiny"))
    sampler, data = ModelSampler(model, 4), model.noise(range(2))
    source, target = sampler.condition(["a cat"] * 2), sampler.condition(["a dog"] * 2, 3.0)
    mask = torch.zeros(2, 1, *data.shape[2:])
    mask[..., :4] = 1
    return model, sampler, data, source, target, mask


@pytest.mark.parametrize("family", ["flow", "diffusion"])
def test_what_is_outside_the_mask_stays_whatever_is_asked_for(
    family: str, flow: StableDiffusion3
) -> None:
    _, sampler, data, source, target, mask = half_masked(family, flow)
    way = inverted("uniinv", sampler, data, source)
    found = Masked(sampler, way, mask)(way.start, target)
    assert torch.equal(found[..., 4:], data[..., 4:])
    assert not torch.allclose(found[..., :4], data[..., :4], atol=1e-3)
    whole = Masked(sampler, way, torch.ones_like(mask))(way.start, target)
    assert torch.equal(whole, sampler(way.start, target))
    assert torch.equal(Masked(sampler, way, None)(way.start, target), whole)


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("family", ["flow", "diffusion"])
def test_what_is_outside_the_mask_stays_with_fresh_noise_too(
    family: str, share: float, flow: StableDiffusion3
) -> None:
    model, sampler, data, source, target, mask = half_masked(family, flow)
    up = inverted("uniinv", sampler, data, source)
    way = renewed(up, sampler, data, source, model.process, share, [3, 4])
    found = Masked(sampler, way, mask)(way.start, target)
    assert torch.equal(found[..., 4:], data[..., 4:])
    assert not torch.allclose(found[..., :4], data[..., :4], atol=1e-3)
    for same in (Masked(sampler, way, None), Masked(sampler, way, torch.ones_like(mask))):
        # Whoever asks for what is there gets it, whatever the noise.
        torch.testing.assert_close(same(way.start, source), data, rtol=1e-4, atol=1e-4)
    # Fewer last steps, and one of the pictures, see the same noise.
    fewer = ModelSampler(model, 4, 2)
    below = up.last(2, fewer.start_scale)
    found = renewed(below, fewer, data, source, model.process, share, [3, 4])
    assert found.ends is not None and way.ends is not None
    assert torch.equal(found.path, way.last(2).path) and torch.equal(found.ends, way.ends[2:])
    one = way.rows(torch.tensor([1]))
    assert one.ends is not None and torch.equal(one.ends[:, 0], way.ends[:, 1])


def test_a_way_of_fresh_noise_everywhere_is_that_of_flowedit(flow: StableDiffusion3) -> None:
    """Kulikov et al. 2024, Algorithm 1, on the noise that the way drew."""
    sampler, y = ModelSampler(flow, 5, 4), flow.noise(range(2))
    source, target = sampler.condition(["a cat"] * 2, 1.5), sampler.condition(["a dog"] * 2, 4.0)
    up = inverted("noise", sampler, y, source, [0, 1])
    way = renewed(up, sampler, y, source, flow.process, 1.0, [5, 6])
    edited, noises = y, []
    for k, level in enumerate(sampler.levels[:-1]):
        noises.append((way.path[k] - (1 - level) * y) / level)
        noised = (1 - level) * y + level * noises[-1]
        gap = sampler.slope(edited + noised - y, level, target)
        gap = gap - sampler.slope(noised, level, source)
        edited = edited + (sampler.levels[k + 1] - level) * gap
    found = Masked(sampler, way, None)(way.start, target)
    torch.testing.assert_close(found, edited, rtol=1e-4, atol=1e-4)
    drawn = torch.stack(noises).flatten(1)
    assert abs(float(drawn.std()) - 1) < 0.1
    assert float((torch.corrcoef(drawn) - torch.eye(len(drawn))).abs().max()) < 0.2


@pytest.mark.parametrize("how", STARTS)
def test_every_way_up_ends_at_the_picture_and_has_those_of_fewer_steps(
    how: str, flow: StableDiffusion3
) -> None:
    sampler, data = ModelSampler(flow, 5), flow.noise(range(2))
    prompts = sampler.condition(["a cat", "a dog"])
    way = inverted(how, sampler, data, prompts, range(2))
    assert way.path.shape == (6, *data.shape) and torch.equal(way.path[-1], data)
    assert torch.equal(way.start, starting_point(how, sampler, data, prompts, range(2)))
    short = ModelSampler(flow, 5, 3)
    part = inverted(how, short, data, prompts, range(2))
    if how != "noise":  # which is reached on a straight line
        assert torch.equal(way.last(3).path, part.path)
    assert way.last(3).levels == short.levels and way.last(0).levels == way.levels


# From the library and the command line.


def editor(model: StableDiffusion3, images: Tensor, **changes: Any) -> Editor:
    settings = flowopt_preset("edit", **{"steps": 4, "last": 3} | changes)
    task = Task(images, ("a cat",) * len(images), ("a red dog",) * len(images))
    return Editor(task, model, settings)


def test_an_edit_changes_only_what_is_in_a_mask(flow: StableDiffusion3, images: Tensor) -> None:
    masks = torch.zeros(2, 1, 32, 32)  # of any size
    masks[..., 16:] = 1
    few = evoken.flowopt_preset("edit", steps=4, last=3, iterations=1)
    prompts = ["a cat"] * 2, ["a red dog"] * 2
    for iterate in evoken.edit(few, flow, images[:2], *prompts, masks=masks):
        assert torch.equal(iterate.images[..., :8], images[:2, ..., :8])
        assert not torch.equal(iterate.images[..., 8:], images[:2, ..., 8:])
        assert not torch.equal(iterate.drawn[..., :8], images[:2, ..., :8])  # by the autoencoder


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.ones(1, 1, 8, 8), "`masks` must be .*, 2 x 1 x height x width .got 1 x 1 x 8 x 8"),
        (torch.ones(2, 8, 8), "got 2 x 8 x 8"),
        (torch.ones(2, 3, 8, 8), "got 2 x 3 x 8 x 8"),
        (torch.ones(2, 1, 8, 8, dtype=torch.bool), "got torch.bool.*masks.float"),
        (torch.full((2, 1, 8, 8), 255.0), "got 255 to 255.*Divide levels by 255"),
        (torch.full((2, 1, 8, 8), torch.nan), "got nan to nan"),
        (np.ones((2, 1, 8, 8)), "got ndarray"),
    ],
)
def test_masks_of_other_kinds_are_refused(
    masks: Any, message: str, flow: StableDiffusion3, images: Tensor
) -> None:
    few, prompts = flowopt_preset("edit", steps=4), (["a cat"] * 2, ["a dog"] * 2)
    with pytest.raises(SettingError, match=message):
        evoken.edit(few, flow, images[:2], *prompts, masks=masks)


def test_masks_and_everywhere_exclude_each_other(flow: StableDiffusion3, images: Tensor) -> None:
    few = flowopt_preset("edit", steps=4, everywhere=True)
    with pytest.raises(SettingError, match=r"`masks` says where .* `everywhere`"):
        evoken.edit(few, flow, images[:1], ["a cat"], ["a dog"], masks=torch.ones(1, 1, 8, 8))


def test_everywhere_is_the_models_own_picture(flow: StableDiffusion3, images: Tensor) -> None:
    for iterate in editor(flow, images[:1], everywhere=True).iterates():
        assert torch.equal(iterate.images, iterate.drawn)


@pytest.mark.parametrize("preset", ["official-sd3-edit", "official-sd3-invert"])
def test_the_official_presets_are_the_published_loop(
    preset: str, flow: StableDiffusion3, images: Tensor
) -> None:
    """Of all that is ours nothing has a part in them: no mask, no strip, no frame."""
    images, few = images[:2], flowopt_preset(preset, steps=4, last=3, iterations=2)
    prompts = ["a cat"] * 2, ["a red dog"] * 2
    editing = preset.endswith("edit")
    found = list(
        evoken.edit(few, flow, images, *prompts)
        if editing
        else evoken.invert(few, flow, images, prompts[0])
    )
    f, y = ModelSampler(flow, 4, 3), flow.encode(images)
    z = starting_point("uniinv", f, y, f.condition(prompts[0]))
    target = f.condition(prompts[1], 3.5) if editing else f.condition(prompts[0])
    for iterate in found:
        result = f(z, target)
        assert torch.equal(iterate.step.result, result)
        assert torch.equal(iterate.images, flow.decode(result))
        z = z - few.eta * (result - y)
    assert len(found) == 3


@pytest.fixture
def photo() -> Path:
    """A picture in the folder that commands run in."""
    Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 30).convert("RGB").save("house.png")
    return Path("house.png")


def edited(tiny_folder: Path, *arguments: object, few: tuple[object, ...] = ()) -> Any:
    model = ("--model", tiny_folder / "flow", "--clip", tiny_folder / "clip", "--steps", 4)
    return command("edit", *arguments, *model, *few)


def half(size: tuple[int, int] = (40, 30), side: str = "right", name: str = "mask.png") -> Path:
    """A mask whose one half is white."""
    mask = Image.new("L", size)
    box = (size[0] // 2, 0, *size) if side == "right" else (0, 0, size[0] // 2, size[1])
    mask.paste(255, box)
    mask.save(name)
    return Path(name)


def levels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_mask_is_found_shown_and_kept(tiny_folder: Path, photo: Path) -> None:
    result = edited(tiny_folder, photo, *TURN)
    assert result.exit_code == 0, result.output
    assert "may change: white in runs/house-edit/masks" in result.output
    run = FlowOptRun.open("runs/house-edit")
    mask = levels(run.path / "masks/00.png")
    assert mask.shape == (30, 40) and mask.min() < mask.max()
    assert "white where house.png may change" in (run.path / "report.html").read_text()
    outside = np.asarray(mask) == 0
    for number in range(len(run.records())):
        made = levels(run.picture(0, number))
        assert (made[outside] == levels(photo)[outside]).all()


def test_how_much_may_change_is_said_of_the_picture_and_not_of_its_square(
    tiny_folder: Path,
) -> None:
    Image.effect_mandelbrot((120, 30), (-2, -1, 1, 1), 30).convert("RGB").save("wide.png")
    result = edited(tiny_folder, "wide.png", *TURN, "--mask", half((120, 30)))
    assert "\n50 % of the picture may change" in result.output
    frame = ("--frame", "middle", "--output", "part")  # which is a quarter of it
    result = edited(tiny_folder, "wide.png", *TURN, few=frame)
    kept = levels(Path("part/masks/00.png"))
    assert kept[:, :45].max() == kept[:, 75:].max() == 0
    assert f"\n{100 * kept.mean() / 255:.0f} % of the picture may change" in result.output


def test_where_prompts_ask_for_the_same_it_is_said_that_nothing_changes(
    tiny_folder: Path, photo: Path
) -> None:
    said = "hardly anything of 'house.png' may change"
    result = edited(tiny_folder, photo, "--from", "a cat", "--to", "a cat")
    assert result.exit_code == 0 and f"Note: {said}" in result.output
    assert said in html.unescape(Path("runs/house-edit/report.html").read_text())
    result = edited(tiny_folder, photo, *TURN, few=("--output", "other"))
    assert said not in result.output + Path("other/report.html").read_text()


@pytest.mark.parametrize("size", [(40, 30), (80, 60), (20, 16), (400, 301)])
def test_a_mask_may_be_given(tiny_folder: Path, photo: Path, size: tuple[int, int]) -> None:
    result = edited(tiny_folder, photo, *TURN, "--mask", half(size))
    assert result.exit_code == 0, result.output
    run = FlowOptRun.open("runs/house-edit")
    kept = levels(run.path / "masks/00.png")
    assert kept.shape == (30, 40) and kept[:, :15].max() == 0 and kept[:, 25:].min() == 255
    made = levels(run.picture(0, 1))
    assert (made[kept == 0] == levels(photo)[kept == 0]).all()
    assert (made[:, 25:] != levels(photo)[:, 25:]).any()


def test_a_yaml_may_name_a_mask_for_a_picture(tiny_folder: Path, photo: Path) -> None:
    half()
    entry = {"init_img": "house.png", "source_prompt": "a cat", "target_prompts": ["a dog"]}
    Path("edits.yaml").write_text(yaml.safe_dump([entry | {"mask": "mask.png"}, entry]))
    result = edited(tiny_folder, "edits.yaml")
    assert result.exit_code == 0, result.output
    given, found = (levels(Path(f"runs/edits-edit/masks/0{i}.png")) for i in (0, 1))
    assert {*np.unique(given)} == {0, 255} and len(np.unique(found)) > 5


def test_masks_that_cannot_be_used(tiny_folder: Path, photo: Path) -> None:
    Path("text.png").write_text("text")
    Image.new("L", (40, 30)).save("black.png")
    Image.new("L", (40, 30), 1).save("faint.png")
    half((30, 30), name="square.png")
    half()
    for name, size in (("dot.png", (4000, 3000)), ("pixel.png", (400, 300))):
        dot = Image.new("L", size)
        dot.putpixel((size[0] // 2, size[1] // 2), 255)
        dot.save(name)
    Image.effect_mandelbrot((400, 300), (-2, -1, 1, 1), 30).convert("RGB").save("large.png")
    seen = "nothing white of the mask pixel.png is left in the 16 x 16 pixels"
    refused(edited(tiny_folder, "large.png", *TURN, "--mask", "pixel.png"), seen, "set --frame to")
    for arguments, word in (
        (("--mask", "text.png"), "text.png is not an image"),
        (("--mask", "none.png"), "none.png"),
        (("--mask", "black.png"), "black.png is black, but must be white where"),
        (("--mask", "faint.png"), "faint.png is no brighter than 1 of 255, but must be white"),
        (("--mask", "dot.png"), "dot.png is black in the picture's 40 x 30 pixels, but"),
        (("--mask", "square.png"), "proportions of the picture, 40 x 30 pixels (got 30 x 30)"),
        (("--mask", "mask.png", "--everywhere"), "Leave out one of them"),
        (("--frame", "mask"), "Give one with --mask"),
        (("--strength", "4"), "Write it like 4:12"),
        (("--strength", "4:9"), "--last must be at most --steps (got 9 of 4 steps)"),
        (("--strength", "4:3:0", "--seeds", "2"), "--seeds must be 1 where no noise is drawn anew"),
    ):
        refused(edited(tiny_folder, photo, *TURN, *arguments), word)
    assert not Path("runs").exists()
    entry = {"init_img": "house.png", "source_prompt": "a cat", "target_prompts": ["a dog"]}
    Path("edits.yaml").write_text(yaml.safe_dump([entry, entry | {"mask": "mask.png"}]))
    refused(edited(tiny_folder, "edits.yaml", "--mask", "mask.png"), "came as well")
    refused(edited(tiny_folder, "edits.yaml", "--everywhere"), "Leave out one of them")


def test_a_mask_beside_a_picture_is_its_own(tiny_folder: Path, photo: Path) -> None:
    Path("two").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(photo, Path("two", name))
    half(name="two/a-masklabel.png")
    result = edited(tiny_folder, "two", *TURN, few=("--strength", "4:3"))
    assert result.exit_code == 0, result.output
    assert "Taking the mask 'a-masklabel.png'.\n" in result.output
    own, found = (levels(Path(f"runs/two-edit/masks/0{i}.png")) for i in (0, 1))
    assert {*np.unique(own[:, :15])} == {0} and len(np.unique(found)) > 5
    left = half(side="left")
    few = ("--strength", "4:3", "--mask", left, "--output", "left")
    result = edited(tiny_folder, "two", *TURN, few=few)
    assert "Taking" not in result.output and levels(Path("left/masks/00.png"))[:, 0].min() == 255
    few = ("--strength", "4:3", "--everywhere", "--output", "all")
    result = edited(tiny_folder, "two", *TURN, few=few)
    assert result.exit_code == 0 and not Path("all/masks").exists()


def test_an_inversion_has_no_frame_around_a_mask(tiny_folder: Path, photo: Path) -> None:
    half()
    entry = {"init_img": "house.png", "source_prompt": "a cat", "mask": "mask.png"}
    Path("edits.yaml").write_text(yaml.safe_dump([entry]))
    for asked in (("edits.yaml",), (photo, "--prompt", "a cat")):
        few = ("--model", "none", "--frame", "mask")  # before any model is looked for
        refused(command("invert", *asked, *few), "--frame must be whole or middle")
    assert not Path("runs").exists()


def test_a_mask_of_a_pixel_changes_that_pixel_where_the_model_looks_at_it(
    tiny_folder: Path,
) -> None:
    picture, mask = Image.new("RGB", (400, 300), "teal"), Image.new("L", (400, 300))
    picture.save("large.png")
    mask.putpixel((200, 150), 255)
    mask.save("mask.png")
    result = edited(tiny_folder, "large.png", *TURN, "--mask", "mask.png", "--frame", "mask")
    assert result.exit_code == 0, result.output
    made = levels(FlowOptRun.open("runs/large-edit").picture(0, 1))
    changed = (made != np.asarray(picture)).any(2)
    assert changed.sum() == 1 and changed[150, 200]


def test_a_mask_that_was_changed_is_not_gone_on_with(tiny_folder: Path, photo: Path) -> None:
    assert edited(tiny_folder, photo, *TURN).exit_code == 0
    run = Path("runs/house-edit")
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[0])["kept"].keys() == {"states/inversion.safetensors", "masks/00.png"}
    whole = files(run)
    (run / "records.jsonl").write_text(lines[0])
    assert command("edit", "--resume", run).exit_code == 0
    assert files(run) == whole  # with the mask and the way that are there
    half(name=str(run / "masks/00.png"))
    refused(command("edit", "--resume", run), "masks/00.png is damaged")


def test_masks_have_256_levels_in_a_file_and_before() -> None:
    mask = of_pictures(torch.rand(1, 1, 4, 4), 16)
    assert torch.equal((mask * 255).round() / 255, mask)
