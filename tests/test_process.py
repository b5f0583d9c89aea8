import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from evoken.errors import ModelError
from evoken.process import DDPM, Process, RectifiedFlow

SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
PREDICTIONS = ("epsilon", "v_prediction")


def process(prediction: str = "epsilon") -> DDPM:
    return DDPM(SCHEDULER.alphas_cumprod, prediction)


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    latents, noise = (torch.randn(5, 2, 3, 3, generator=generator) for _ in range(2))
    return latents, noise, torch.rand(5, generator=generator)


def test_noise_and_targets_are_those_of_diffusers() -> None:
    latents, noise, t = draw(0)
    steps = process().timestep(t)
    expected = SCHEDULER.add_noise(latents, noise, steps)
    torch.testing.assert_close(process().add_noise(latents, noise, t), expected)
    velocity = SCHEDULER.get_velocity(latents, noise, steps)
    torch.testing.assert_close(process("v_prediction").target(latents, noise, t), velocity)
    assert torch.equal(process().target(latents, noise, t), noise)


PROCESSES: tuple[Process, ...] = (*map(process, PREDICTIONS), RectifiedFlow())


@given(st.integers(0, 2**31), st.sampled_from(PROCESSES))
def test_the_target_leads_back_to_the_data(seed: int, found: Process) -> None:
    latents, noise, t = draw(seed)
    noisy = found.add_noise(latents, noise, t)
    back = found.data(noisy, found.target(latents, noise, t), t)
    torch.testing.assert_close(back, latents, rtol=1e-3, atol=1e-3)


@given(st.integers(0, 2**31), st.sampled_from(PROCESSES))
def test_the_ode_of_one_picture_is_a_straight_line(seed: int, found: Process) -> None:
    """Between one picture and one noise x is linear in s, with the slope that the target gives."""
    latents, noise, t = draw(seed)
    noisy = found.add_noise(latents, noise, t)
    levels = found.level(t)
    scales = torch.tensor([found.scale(float(s)) for s in levels])[:, None, None, None]
    slope = found.slope(noisy, found.target(latents, noise, t), t)
    data = noisy / scales - levels[:, None, None, None] * slope
    torch.testing.assert_close(data, latents, rtol=1e-3, atol=2e-3)


@given(st.floats(0, 1), st.sampled_from(PROCESSES))
def test_levels_and_t_are_inverse(t: float, found: Process) -> None:
    level = float(found.level(torch.tensor([t]))[0])
    assert abs(found.t_of(level) - t) <= 1.001e-3
    assert float(found.level(torch.tensor([found.t_of(level)]))[0]) == pytest.approx(level)


def test_a_flow_is_that_of_diffusers() -> None:
    latents, noise, _ = draw(0)
    scheduler = FlowMatchEulerDiscreteScheduler()
    steps = scheduler.timesteps[[0, 250, 500, 750, 999]]
    flow, t = RectifiedFlow(), steps / 1000
    noisy = scheduler.scale_noise(latents, steps, noise)
    torch.testing.assert_close(flow.add_noise(latents, noise, t), noisy)
    torch.testing.assert_close(flow.timestep(t), steps)


@given(st.floats(0, 1))
def test_every_level_is_a_timestep(t: float) -> None:
    step = int(process().timestep(torch.tensor([t]))[0])
    assert 0 <= step <= 999
    assert abs(step - t * 1000) <= 1.001


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ModelError, match="epsilon or v"):
        process("sample")
