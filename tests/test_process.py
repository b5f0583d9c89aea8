import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from evoken.errors import ModelError
from evoken.process import DDPM, from_betas

SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
PREDICTIONS = ("epsilon", "v_prediction")


def process(prediction: str = "epsilon") -> DDPM:
    return from_betas(SCHEDULER.betas, prediction)


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


@given(st.integers(0, 2**31), st.sampled_from(PREDICTIONS))
def test_the_target_leads_back_to_the_data(seed: int, prediction: str) -> None:
    latents, noise, t = draw(seed)
    found = process(prediction)
    noisy = found.add_noise(latents, noise, t)
    back = found.data(noisy, found.target(latents, noise, t), t)
    torch.testing.assert_close(back, latents, rtol=1e-3, atol=1e-3)


@given(st.floats(0, 1))
def test_every_level_is_a_timestep(t: float) -> None:
    step = int(process().timestep(torch.tensor([t]))[0])
    assert 0 <= step <= 999
    assert abs(step - t * 1000) <= 1.001


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ModelError, match="epsilon or v"):
        process("sample")
