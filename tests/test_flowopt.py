"""FlowOpt's parts: the sampler, the starting points, the step rules and the iteration."""

from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import evoken
from evoken.errors import SearchError, SettingError
from evoken.flowopt.compare import last_counted
from evoken.flowopt.inversion import (
    euler,
    implicit,
    starting_point,
    uniinv,
    with_fresh_noise,
)
from evoken.flowopt.optimize import Evaluated, Step, flow_opt
from evoken.flowopt.rules import (
    RULES,
    Adam,
    Anderson,
    BarzilaiBorwein,
    Estimated,
    Fixed,
    StepRule,
)
from evoken.flowopt.sampler import ModelSampler, last_levels, rms
from evoken.flowopt.secants import cancelled, step_bound
from evoken.flowopt.settings import STARTS
from evoken.models.families.flux import Flux, pack
from evoken.models.families.latent import LatentModel
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.families.stable_diffusion_3 import StableDiffusion3
from evoken.spec import ModelSpec
from tests import tiny

SEEDS = st.integers(0, 2**31)
PROMPTS = ["a photo of a cat", "the blue bird", "a red house"]


@dataclass
class Linear:
    """f(z) = A z for every row, with A symmetric: a sampler of one step."""

    matrix: Tensor
    levels: tuple[float, ...] = (1.0, 0.0)
    start_scale: float = 1.0
    calls: int = 0
    seen: list[Tensor] = field(default_factory=list)

    def __call__(self, latents: Tensor, conditioning: Any) -> Tensor:
        self.calls += len(latents)
        self.seen.append(latents)
        return latents @ self.matrix

    def slope(self, x: Tensor, level: float, conditioning: Any) -> Tensor:
        self.calls += len(x)
        return x - x @ self.matrix

    def rows(self, conditioning: Any, rows: Tensor) -> Any:
        return conditioning


def linear(size: int = 6, low: float = 0.3, high: float = 2.0, seed: int = 0) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return Linear(axes @ torch.diag(torch.linspace(low, high, size)) @ axes.T)


def noise(count: int, size: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def run(rule: StepRule, sampler: Linear, data: Tensor, iterations: int = 10) -> list[Step]:
    return list(flow_opt(sampler, data, torch.zeros_like(data), None, rule, iterations))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("done", [1, 3])
def test_a_run_goes_on_from_earlier_iterations_alone(name: str, done: int) -> None:
    data = noise(2)
    start = 3 * noise(2, seed=1)
    whole = list(flow_opt(linear(), data, start, None, RULES[name](0.3), 6))
    earlier = [Evaluated(s.latents, s.result, s.calls) for s in whole[:done]]
    again = list(flow_opt(linear(), data, None, None, RULES[name](0.3), 6, earlier))
    for one, other in zip(again, whole, strict=True):
        assert torch.equal(one.latents, other.latents) and one.calls == other.calls
        assert torch.equal(one.best_latents, other.best_latents)


def test_a_run_needs_somewhere_to_begin() -> None:
    with pytest.raises(SearchError, match="a run needs a starting point or earlier iterations"):
        list(flow_opt(linear(), noise(2), None, None, Fixed(0.1), 2))


# The rules.


@given(SEEDS, st.floats(0.01, 3))
def test_the_bound_is_where_two_points_stop_coming_closer(seed: int, share: float) -> None:
    u, v, fu, fv = (noise(1, 5, seed + i).double() for i in range(4))
    bound = step_bound(u - v, fu - fv)
    eta = share * bound[:, None]
    after = (u - eta * fu) - (v - eta * fv)
    closer = float(after.norm()) < float((u - v).norm())
    if bound > 1e-6 and abs(share - 1) > 1e-6:
        assert closer == (share < 1)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_finds_the_noise_of_a_linear_process(name: str) -> None:
    data = noise(3)
    eta = 0.3 if name != "adam" else 0.1
    steps = run(RULES[name](eta), linear(), data, 200)
    found = steps[-1].best_latents
    torch.testing.assert_close(found @ linear().matrix, data, rtol=0, atol=1e-2)
    assert (steps[-1].best <= steps[0].residual).all()


@pytest.mark.parametrize("name", RULES)
def test_a_picture_knows_nothing_of_those_beside_it(name: str) -> None:
    """Bit for bit, even where one of them diverges and goes back."""
    data = noise(3) * torch.tensor([1.0, 1e3, 1.0])[:, None]
    eta = 1.4 if name != "adam" else 0.1
    together = run(RULES[name](eta), linear(), data)
    for i in range(3):
        alone = run(RULES[name](eta), linear(), data[i : i + 1])
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a.latents[i], b.latents[0])
            assert a.diverged[i] == b.diverged[0]


def changes(rule: StepRule, curvatures: list[float], z: Tensor) -> list[Tensor]:
    """What a rule does where the residual grows by so much of z's last change at every step."""
    residual, found = z.clone(), []
    for curvature in [*curvatures, 0.0]:
        found.append(rule.change(z, residual))
        z, residual = z + found[-1], residual + curvature * found[-1]
    return found


def steps_of(rule: StepRule, curvature: float) -> float:
    """The second step of a rule, in shares of the residual, after a first that met a curvature."""
    z = noise(1)
    first, second = changes(rule, [curvature], z)
    torch.testing.assert_close(first, -rule.eta * z)  # type: ignore[attr-defined]
    return float(-(second / (z + curvature * first)).mean())


@pytest.mark.parametrize(
    ("curvature", "step"),
    [
        (2.0, 0.5),
        (5.0, 0.2),
        (20.0, 0.05),
        (1e3, 0.04),
        (0.2, 5.0),
        (0.1, 8.0),
        (0.0, 0.4),
        (-10.0, 0.4),
    ],
)
def test_barzilai_borwein_is_the_inverse_curvature_from_a_tenth_to_twenty_times_eta(
    curvature: float, step: float
) -> None:
    assert steps_of(BarzilaiBorwein(0.4), curvature) == pytest.approx(step, rel=1e-4)


@pytest.mark.parametrize(
    ("curvature", "step"), [(2.0, 0.5), (100.0, 0.01), (0.0, 0.4), (-10.0, 0.4)]
)
def test_estimated_is_half_of_the_bound(curvature: float, step: float) -> None:
    assert steps_of(Estimated(0.4), curvature) == pytest.approx(step, rel=1e-4)


def test_estimated_keeps_to_the_smallest_bound_so_far() -> None:
    found = changes(Estimated(0.1), [4.0, 8.0, 2.0], noise(1))
    sizes = [0.1, 1 / 4, 1 / 8, 1 / 8]
    residual = noise(1)
    for change, size, curvature in zip(found, sizes, [4.0, 8.0, 2.0, 0.0], strict=True):
        torch.testing.assert_close(change, -size * residual, rtol=1e-4, atol=1e-6)
        residual = residual + curvature * change


def test_adam_is_adam_with_the_residual_for_a_gradient() -> None:
    rule, z = Adam(0.1), noise(2).requires_grad_()
    other = torch.optim.Adam([z], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
    found = z.detach().clone()
    for seed in range(5):
        z.grad = noise(2, seed=seed)
        other.step()
        found = found + rule.change(found, z.grad)
        torch.testing.assert_close(found, z.detach())


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", RULES)
def test_a_row_that_diverged_is_half_as_bold_and_forgets(name: str, times: int) -> None:
    """It goes on as one that begins here with half the step; the other one as if nothing was."""
    rule, plain, fresh = RULES[name](0.3), RULES[name](0.3), RULES[name](0.3 / 2**times)
    points = [(noise(2, seed=s), noise(2, seed=s + 10)) for s in range(4)]
    for z, residual in points[:2]:
        rule.change(z, residual), plain.change(z, residual)
    for _ in range(times):
        rule.restart(torch.tensor([True, False]))
    for z, residual in points[2:]:
        found, kept = rule.change(z, residual), plain.change(z, residual)
        torch.testing.assert_close(found[1], kept[1])
        if name == "adam":  # its moments are of sizes alone, and stay
            torch.testing.assert_close(found[0], kept[0] / 2**times)
        elif name in ("fixed", "anderson") or (name == "barzilai-borwein" and z is points[2][0]):
            torch.testing.assert_close(found[0], fresh.change(z, residual)[0])


def test_anderson_solves_a_linear_process_in_as_many_steps_as_it_has_dimensions() -> None:
    steps = run(Anderson(0.3, memory=8), linear(size=4), noise(2, 4), 7)
    assert steps[-1].best.max() < 1e-3 < steps[3].best.min()


def test_anderson_cancels_what_its_memory_explains() -> None:
    """Changes in every direction explain all of the gap: the step leads to where it vanishes."""
    slopes = noise(5, 5, 1).double()
    dz, gap = torch.stack([noise(5, 5, s).double() for s in (2, 3)]), noise(2, 5, 4).double()
    step = cancelled(gap, dz, dz @ slopes)
    torch.testing.assert_close(step @ slopes, -gap, rtol=0, atol=1e-4)


def test_anderson_needs_a_memory() -> None:
    assert (run(Anderson(0.3, memory=1), linear(), noise(2))[-1].best < 1).all()
    with pytest.raises(SettingError, match="`memory` must be at least 1"):
        Anderson(0.3, memory=0)


def test_points_with_the_same_residual_have_no_bound() -> None:
    assert step_bound(noise(2), torch.zeros(2, 6)).tolist() == [0, 0]


@pytest.mark.parametrize(("growth", "diverged"), [(0.5, False), (1.45, False), (1.55, True)])
def test_a_step_that_makes_it_half_as_bad_again_is_taken_back(
    growth: float, diverged: bool
) -> None:
    class Scripted(Linear):
        def __call__(self, latents: Tensor, conditioning: Any) -> Tensor:
            return torch.ones_like(super().__call__(latents, conditioning)) * sizes.pop(0)

    sizes = [1.0, growth, 1.0]
    first, second, third = run(Fixed(0.5), Scripted(torch.eye(6)), torch.zeros(1, 6), 2)
    assert second.diverged.tolist() == [diverged]
    since = first if diverged else second
    change = 0.5 * since.residual * (0.5 if diverged else 1)
    torch.testing.assert_close(third.latents, since.latents - change.float()[:, None])


def test_too_large_a_step_is_noticed_and_made_smaller() -> None:
    steps = run(Fixed(4.0), linear(high=2.0), noise(2), 40)
    assert any(s.diverged.any() for s in steps)
    assert (steps[-1].best < 0.5 * steps[0].residual).all()
    assert (torch.stack([s.residual for s in steps]).amin(0) == steps[-1].best).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_step_size_must_be_positive(bad: float) -> None:
    with pytest.raises(SettingError, match="`eta`"):
        Fixed(bad)


def test_nan_in_one_picture_sends_it_back_and_leaves_the_others() -> None:
    class Broken(Linear):
        def __call__(self, latents: Tensor, conditioning: Any) -> Tensor:
            out = super().__call__(latents, conditioning)
            return torch.where((latents.norm(dim=1) > 2)[:, None], torch.nan, out)

    data = noise(3) * torch.tensor([0.2, 9.0, 0.2])[:, None]
    steps = run(Fixed(0.9), Broken(linear().matrix), data, 6)
    assert any(s.diverged[1] for s in steps) and not any(s.diverged[0] for s in steps)
    assert steps[-1].best.isfinite().all()


def test_nan_at_the_start_is_an_error() -> None:
    with pytest.raises(SearchError, match="finite"):
        run(Fixed(0.1), Linear(torch.full((6, 6), torch.nan)), noise(2))


# The sampler and the starting points, on both families.


@pytest.fixture(params=["stable-diffusion", "stable-diffusion-3", "flux"])
def family(request: pytest.FixtureRequest) -> LatentModel:
    if request.param == "stable-diffusion":
        return StableDiffusion(tiny.pipeline(), ModelSpec("tiny"))
    if request.param == "flux":
        return Flux(tiny.flux_pipeline(), ModelSpec("tiny", size=16))
    return StableDiffusion3(tiny.flow_pipeline(), ModelSpec("tiny"), t5_tokens=0)


def test_for_diffusion_f_is_ddim() -> None:
    model = StableDiffusion(tiny.pipeline(), ModelSpec("tiny"))
    sampler = ModelSampler(model, steps=5)
    prompts, z = sampler.condition(PROMPTS), model.noise(range(3))
    scheduler = DDIMScheduler.from_config(
        model.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True
    )
    scheduler.set_timesteps(5)
    x = z
    for step in scheduler.timesteps:
        t = torch.full((3,), (float(step) + 0.5) / 1000)
        x = scheduler.step(model.denoise(x, t, prompts.hidden), step, x).prev_sample
    torch.testing.assert_close(sampler(z, prompts), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_for_flows_f_is_the_pipeline(guidance: float) -> None:
    pipe = tiny.flow_pipeline()
    model = StableDiffusion3(pipe, ModelSpec("tiny"), t5_tokens=256)
    sampler = ModelSampler(model, steps=4)
    z = model.noise(range(3))
    found = sampler(z, sampler.condition(PROMPTS, guidance))
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        PROMPTS,
        latents=z,
        num_inference_steps=4,
        guidance_scale=guidance,
        output_type="latent",
        height=16,
        width=16,
    ).images
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("dev", [True, False])
def test_for_flux_f_is_the_pipeline(guidance: float, dev: bool) -> None:
    pipe = tiny.flux_pipeline(dev)
    model = Flux(pipe, ModelSpec("tiny", size=16))
    sampler = ModelSampler(model, steps=4)
    z = model.noise(range(3))
    found = sampler(z, sampler.condition(PROMPTS, guidance))
    assert sampler.calls == 3 * 4  # guidance is an input, or not there
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        PROMPTS,
        latents=pack(z),
        num_inference_steps=4,
        guidance_scale=guidance,
        output_type="latent",
        height=16,
        width=16,
        max_sequence_length=24,
    ).images
    torch.testing.assert_close(pack(found), expected, rtol=1e-4, atol=1e-5)


def test_calls_are_counted_at_the_denoiser(family: LatentModel) -> None:
    sampler = ModelSampler(family, steps=4)
    plain, guided = sampler.condition(PROMPTS), sampler.condition(PROMPTS, 3.0)
    z = family.noise(range(3))
    for conditioning, calls in ((plain, 3 * 4), (guided, 3 * 4 * family.guidance_calls)):
        before, counted = family.calls, sampler.calls
        sampler(z, conditioning)
        assert family.calls - before == sampler.calls - counted == calls
    counted = sampler.calls
    uniinv(sampler, z, plain)
    assert sampler.calls - counted == 3 * (4 + 1)
    counted = sampler.calls
    euler(sampler, z, plain)
    assert sampler.calls - counted == 3 * 4


def test_the_last_steps_are_the_process_cut_short(family: LatentModel) -> None:
    whole, part = ModelSampler(family, 6), ModelSampler(family, 6, last=2)
    assert part.levels == whole.levels[-3:]
    with pytest.raises(SettingError, match="`last` must be from 0"):
        last_levels([1.0, 0.5, 0.0], 3)
    with pytest.raises(SettingError, match="`steps` must be at least 1"):
        ModelSampler(family, 0)


def test_uniinv_against_its_published_loop(family: LatentModel) -> None:
    """Section 1.1 of the notes on the official script, in the ODE's variables."""
    sampler = ModelSampler(family, 5)
    prompts, y = sampler.condition(PROMPTS), family.noise(range(3))
    times = list(reversed(sampler.levels))
    x, v = y, sampler.slope(y, times[0], prompts)
    for t, following in pairwise(times):
        dt = following - t
        x_bar = x + v * dt
        v = sampler.slope(x_bar, following, prompts)
        x = x + v * dt
    torch.testing.assert_close(uniinv(sampler, y, prompts), x * sampler.start_scale)


def test_the_implicit_start_inverts_the_process(family: LatentModel) -> None:
    sampler = ModelSampler(family, 5)
    prompts = sampler.condition(PROMPTS)
    y = sampler(family.noise(range(3)), prompts)
    found = {
        how: rms(sampler(starting_point(how, sampler, y, prompts, range(3)), prompts) - y)
        for how in STARTS
    }
    tight = implicit(sampler, y, prompts, tolerance=1e-6, most=40)
    assert rms(sampler(tight, prompts) - y).max() < 1e-4
    assert (found["implicit"] < found["uniinv"]).all()
    assert (found["uniinv"] < found["noise"]).all()


def test_a_start_does_not_depend_on_the_pictures_beside_it(family: LatentModel) -> None:
    sampler = ModelSampler(family, 5)
    y = family.noise(range(3)) * torch.tensor([1.0, 0.1, 2.0])[:, None, None, None]
    prompts = sampler.condition(PROMPTS)
    for how in STARTS:
        together = starting_point(how, sampler, y, prompts, range(3))
        one = sampler.rows(prompts, torch.tensor([1]))
        alone = starting_point(how, sampler, y[1:2], one, [1])
        torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-3, msg=how)  # rounding


def test_an_unknown_start_is_refused(family: LatentModel) -> None:
    sampler = ModelSampler(family, 2)
    with pytest.raises(SettingError, match="`start` must be one of"):
        starting_point("ddim", sampler, family.noise([0]), sampler.condition(["a cat"]))


@settings(max_examples=20)
@given(SEEDS)
def test_inversion_of_a_linear_process_is_exact(seed: int) -> None:
    sampler = linear(low=0.5, high=1.5, seed=seed % 1000)
    z = noise(2, seed=seed)
    y = sampler(z, None)
    found = implicit(sampler, y, None, tolerance=1e-7, most=60, memory=6)
    np.testing.assert_allclose(found, z, atol=1e-3)


def test_the_package_inverts_and_edits(family: LatentModel) -> None:
    images = torch.rand(2, 3, family.size, family.size) * 2 - 1
    few = evoken.FlowOptSettings(steps=4, iterations=2)
    inverted = list(evoken.invert(few, family, images, PROMPTS[:2]))
    latents = family.encode(images)
    f = ModelSampler(family, 4)
    again = f(inverted[-1].step.best_latents, f.condition(PROMPTS[:2]))
    torch.testing.assert_close(rms(again - latents), inverted[-1].step.best)
    edited = list(evoken.edit(few, family, images, PROMPTS[:2], PROMPTS[1:]))
    assert [i.step.iteration for i in edited] == [0, 1, 2]
    assert edited[0].images.shape == images.shape and edited[0].agreement is None
    with pytest.raises(SettingError, match="target"):
        evoken.edit(few, family, images, PROMPTS[:2], [])


def test_patience_counts_from_the_best() -> None:
    assert last_counted([1, 2, 3, 2, 2], 2) == 4
    assert last_counted([1, 2, 3, 2, 4], 2) is None
    assert last_counted([1, 0, 0, 5], 2) == 2  # what comes later counts no more
    assert last_counted([3, 2, 1], 0) is None


@pytest.mark.parametrize("last", [0, 3])
def test_fresh_noise_replaces_noise_alone(family: LatentModel, last: int) -> None:
    sampler, y = ModelSampler(family, 5, last), family.noise(range(20, 24))
    t = family.process.t_of(sampler.levels[0])
    levels = torch.full((4,), t)
    noise = family.noise(range(4))
    start = family.process.add_noise(y, noise, levels)
    renew = partial(with_fresh_noise, start, y, family.process, t)
    torch.testing.assert_close(renew(0.0, range(4)), start, rtol=1e-3, atol=1e-4)
    other = renew(1.0, range(4)) - family.process.add_noise(y, torch.zeros_like(y), levels)
    correlation = torch.corrcoef(torch.stack([other.flatten(), noise.flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.2
    mixed = renew(0.5, range(4))
    torch.testing.assert_close(rms(mixed), rms(start), rtol=0.2, atol=0)
    assert torch.equal(
        mixed[1:2], with_fresh_noise(start[1:2], y[1:2], family.process, t, 0.5, [1])
    )
