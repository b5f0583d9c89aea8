import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.wide import Wide
from evoken.errors import SettingError
from evoken.models.base import Model
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.textual_inversion import checks
from evoken.textual_inversion.checks import check_memory
from evoken.textual_inversion.settings import LearnSettings
from evoken.textual_inversion.subspace import (
    SUBSPACES,
    Subspace,
    axes_used,
    build_subspace,
    most_axes,
    pca_basis,
    prior_basis,
    spread,
    unit_pca_basis,
)

WORDS, WIDTH = 60, 12


def vocabulary(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=generator) * torch.linspace(2, 0.1, WIDTH)[:, None]
    return torch.randn(WORDS, WIDTH, generator=generator) @ mixing + 0.3


def build(kind: str, axes: int = WIDTH, vectors: int = 1, seed: int = 0) -> Subspace:
    generator = torch.Generator().manual_seed(seed)
    return build_subspace(kind, torch.zeros(vectors, WIDTH), vocabulary(), axes, generator)


@pytest.mark.parametrize("kind", SUBSPACES)
@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_a_unit_step_means_the_same_in_every_subspace(kind: str, vectors: int) -> None:
    """Standard normal coords move each vector by the vocabulary's spread, in the mean square."""
    subspace = build(kind, WIDTH, vectors)
    coords = np.random.default_rng(1).standard_normal((20_000, subspace.dimension))
    moved = subspace.vectors(coords).double().square().sum(2).mean(0).sqrt()
    # The prior's axes are random and not rescaled afterwards: equal only on average.
    tolerance = 0.35 if kind == "prior" else 0.03
    np.testing.assert_allclose(moved.numpy(), spread(vocabulary()), rtol=tolerance)


@pytest.mark.parametrize("kind", ["pca", "prior", "normal"])
def test_fewer_axes_keep_the_scale(kind: str) -> None:
    found = float(build(kind, 4).basis.double().square().sum().sqrt())
    assert found == pytest.approx(spread(vocabulary()), rel=0.5 if kind == "prior" else 1e-5)


def test_the_prior_is_equation_5() -> None:
    """Over many bases, W Q with Q ~ N(0, 1) has lambda times the vocabulary's deviations."""
    generator = torch.Generator().manual_seed(0)
    bases = [prior_basis(vocabulary(), 8, 1.5, generator) for _ in range(3000)]
    variance = torch.stack(bases).double().square().sum(1).mean(0)
    np.testing.assert_allclose(
        variance.sqrt().numpy(), 1.5 * vocabulary().double().std(0).numpy(), rtol=0.05
    )


def test_pca_axes_are_the_eigenvectors_of_the_covariance() -> None:
    basis = pca_basis(vocabulary(), 5).double()
    covariance = torch.from_numpy(np.cov(vocabulary().double().numpy().T))
    values = torch.linalg.eigvalsh(covariance).flip(0)[:5]
    length = basis.norm(dim=1)
    directions = basis / length[:, None]
    torch.testing.assert_close(directions @ directions.T, torch.eye(5).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        (directions @ covariance @ directions.T).diag(), values, atol=1e-4, rtol=1e-4
    )
    # Lengths in the ratio of the standard deviations along the axes.
    torch.testing.assert_close(
        length / length[0], (values / values[0]).sqrt(), atol=1e-4, rtol=1e-4
    )


def test_unit_axes_have_length_1() -> None:
    assert torch.allclose(unit_pca_basis(vocabulary(), 5).norm(dim=1), torch.ones(5))


@given(st.sampled_from(SUBSPACES), st.integers(1, 3), st.integers(0, 2**31))
def test_coords_and_vectors_are_affine(kind: str, vectors: int, seed: int) -> None:
    subspace = build(kind, WIDTH, vectors)
    a, b = np.random.default_rng(seed).standard_normal((2, 1, subspace.dimension))
    zero = np.zeros_like(a)
    left = subspace.vectors(a + b) - subspace.vectors(zero)
    right = (subspace.vectors(a) - subspace.vectors(zero)) + (
        subspace.vectors(b) - subspace.vectors(zero)
    )
    torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-4)
    assert torch.equal(subspace.vectors(zero)[0], subspace.origin)


def test_each_vector_has_coords_of_its_own() -> None:
    subspace = build("identity", vectors=2)
    coords = np.zeros((1, subspace.dimension))
    coords[0, :WIDTH] = 1
    moved = subspace.vectors(coords)[0]
    assert moved[0].abs().min() > 0 and moved[1].abs().max() == 0


@pytest.mark.parametrize(("kind", "axes"), [("pca", 0), ("pca", WIDTH + 1), ("shape", 3)])
def test_impossible_subspaces_are_refused(kind: str, axes: int) -> None:
    with pytest.raises(SettingError):
        build(kind, axes)


@pytest.mark.parametrize("kind", SUBSPACES)
def test_few_words_span_few_principal_axes(kind: str) -> None:
    """Five words differ in four directions; axes that are not theirs are as many as the width."""
    most = 4 if kind == "pca" else WIDTH
    assert most_axes(kind, 5, (WIDTH,)) == [most]
    generator, few = torch.Generator().manual_seed(0), vocabulary()[:5]
    found = build_subspace(kind, torch.zeros(1, WIDTH), few, most, generator)
    unit = found.vectors(np.eye(found.dimension))[:, 0]
    assert (unit.norm(dim=1) > 1e-3).all()
    with pytest.raises(SettingError, match=f"to {most} for"):
        build_subspace(kind, torch.zeros(1, WIDTH), few, most + 1, generator)


@pytest.mark.parametrize("kind", SUBSPACES)
@pytest.mark.parametrize("vectors", [1, 2])
def test_each_encoder_is_searched_in_units_of_its_own_spread(kind: str, vectors: int) -> None:
    """Two encoders, one with embeddings a hundred times as long: none of their axes is common, and
    standard normal coords move each by the spread of its own vocabulary.
    """
    parts = (8, 4)
    words = torch.cat([vocabulary(0)[:, :8], 100 * vocabulary(1)[:, :4]], 1)
    axes = WIDTH if kind == "identity" else 6
    origin, generator = torch.zeros(vectors, WIDTH), torch.Generator().manual_seed(0)
    subspace = build_subspace(kind, origin, words, axes, generator, parts)
    assert len(subspace.basis) == axes
    basis = subspace.basis.diag() if kind == "identity" else subspace.basis
    used = basis != 0
    assert not (used[:, :8].any(1) & used[:, 8:].any(1)).any()
    coords = np.random.default_rng(1).standard_normal((20_000, subspace.dimension))
    moved = subspace.vectors(coords).double().square()
    for part in (slice(0, 8), slice(8, 12)):
        found = moved[..., part].sum(2).mean(0).sqrt()
        # The prior's axes are random and not rescaled afterwards: equal only on average.
        tolerance = 0.8 if kind == "prior" else 0.03
        np.testing.assert_allclose(found.numpy(), spread(words[:, part]), rtol=tolerance)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.data())
def test_axes_are_shared_out_in_proportion(parts: list[int], data: st.DataObject) -> None:
    width = sum(parts)
    axes = data.draw(st.integers(1, width))
    words, generator = torch.randn(40, width), torch.Generator().manual_seed(0)
    try:
        found = build_subspace("normal", torch.zeros(1, width), words, axes, generator, parts)
    except SettingError:
        assert min(parts) * axes < width  # so few that some part would have had none
        return
    for block, part in zip((found.basis != 0).split(parts, 1), parts, strict=True):
        assert abs(int(block.any(1).sum()) - axes * part / width) < 1


def test_halves_of_axes_take_none_from_a_small_part() -> None:
    """Ends at 11.5 and 12.5 axes are one apart."""
    parts, words = [23, 2, 27], torch.randn(40, 52)
    found = build_subspace("normal", torch.zeros(1, 52), words, 26, torch.Generator(), parts)
    shares = [int(b.any(1).sum()) for b in (found.basis != 0).split(parts, 1)]
    assert shares == [12, 1, 13]


@pytest.mark.parametrize("axes", [1, 11])
def test_without_reduction_there_are_as_many_axes_as_components(axes: int) -> None:
    with pytest.raises(SettingError, match="`axes` must be from 12 to 12"):
        build_subspace("identity", torch.zeros(1, 12), vocabulary(), axes, torch.Generator())


def test_a_subspace_without_axes_for_every_encoder_is_refused() -> None:
    generator = torch.Generator()
    for axes in (1, 13):
        with pytest.raises(SettingError, match="`axes` must be from 2 to 12"):
            build_subspace("pca", torch.zeros(1, 12), vocabulary(), axes, generator, (8, 4))


@pytest.mark.parametrize("parts", [(WIDTH,), (WIDTH // 4, WIDTH - WIDTH // 4)])
def test_no_vector_is_longer_than_it_may_be(parts: tuple[int, ...]) -> None:
    longest = tuple((width, 0.5 + i) for i, width in enumerate(parts))
    free = Subspace(torch.zeros(2, WIDTH), torch.eye(WIDTH))
    bound = Subspace(free.origin, free.basis, longest)
    coords = np.random.default_rng(0).standard_normal((7, 2 * WIDTH)) * 0.4
    for before, after in zip(
        free.vectors(coords).split(parts, 2), bound.vectors(coords).split(parts, 2), strict=True
    ):
        most = dict(longest)[before.shape[2]]
        lengths = before.norm(dim=2)
        torch.testing.assert_close(after.norm(dim=2), lengths.clamp(max=most))
        cosine = torch.nn.functional.cosine_similarity(before, after, dim=2)
        torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_memory_is_asked_for_the_axes_that_are_used(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The principal axes of a vocabulary of a few dozen words need little, however wide it is."""
    wide: Model = Wide(model, 4096)  # type: ignore[assignment]
    monkeypatch.setattr(checks, "available", lambda device: 30_000_000)
    check_memory(LearnSettings(placeholder="<x>", subspace="pca"), wide)
    with pytest.raises(SettingError, match="so many directions"):
        check_memory(LearnSettings(placeholder="<x>"), wide)
    sizes = [axes_used(kind, 0, 5000, (300, 700)) for kind in SUBSPACES]
    assert dict(zip(SUBSPACES, sizes, strict=True)) == {
        "identity": 1000,
        "pca": 256,
        "prior": 256,
        "normal": 256,
    }
    assert axes_used("pca", 0, 100, (300, 700)) == 198 and axes_used("pca", 40, 100, (300,)) == 40


def test_no_reduction_takes_as_many_numbers_as_a_vector() -> None:
    """And not a matrix, which 20,480 components would have no room for."""
    found = build("identity", WIDTH, 2)
    assert found.basis.shape == (WIDTH,)
    coords = np.arange(2.0 * WIDTH)[None]
    moved = found.vectors(coords)[0] - found.origin
    np.testing.assert_allclose(
        moved.numpy(), coords.reshape(2, -1) * found.basis.numpy(), rtol=1e-5, atol=1e-5
    )
