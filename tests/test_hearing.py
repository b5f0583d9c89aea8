import numpy as np
import pytest
import torch

from benchmarks.wide import Wide
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.textual_inversion import hearing
from evoken.textual_inversion import learn as learning
from evoken.textual_inversion.hearing import heard_directions
from evoken.textual_inversion.learn import Learner, Record, learn
from evoken.textual_inversion.settings import LearnSettings
from evoken.textual_inversion.subspace import Subspace, build_subspace

SENTENCE, WORD = "a photo of a <x>", "<x>"


def subspace_of(model: StableDiffusion | Wide, vectors: int = 1) -> Subspace:
    words = model.vocabulary().vectors
    generator = torch.Generator().manual_seed(0)
    return build_subspace(
        "identity", words[:1].repeat(vectors, 1), words, words.shape[1], generator
    )


def jacobian(model: StableDiffusion, subspace: Subspace) -> np.ndarray:
    """Entry x dimension, one difference at a time."""
    size = hearing.DIFFERENCE * subspace.dimension**0.5

    def read(point: np.ndarray) -> np.ndarray:
        return model.condition([SENTENCE], {WORD: subspace.vectors(point)}).double().numpy().ravel()

    zero = np.zeros((1, subspace.dimension))
    columns = [read(zero + row) - read(zero) for row in size * np.eye(subspace.dimension)]
    return np.stack(columns, 1) / size


def test_the_signs_and_bases_of_a_machines_lapack_change_nothing(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run listens again, maybe elsewhere."""
    subspace, solve = subspace_of(model), np.linalg.eigh
    found = heard_directions(model, subspace, SENTENCE, WORD, 0)

    def another(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, axes = solve(matrix)
        return values, axes * np.where(np.arange(len(values)) % 3, 1.0, -1.0)

    monkeypatch.setattr(np.linalg, "eigh", another)
    again = heard_directions(model, subspace, SENTENCE, WORD, 0)
    np.testing.assert_allclose(again, found, rtol=0, atol=1e-12 * np.abs(found).max())


@pytest.mark.parametrize("vectors", [1, 2])
def test_heard_directions_are_the_root_of_the_jacobians_squares(
    model: StableDiffusion, vectors: int
) -> None:
    """The tiny encoder gives as many numbers as a sketch has: nothing is added up."""
    subspace = subspace_of(model, vectors)
    found = heard_directions(model, subspace, SENTENCE, WORD, 0)
    exact = jacobian(model, subspace)
    squares, axes = np.linalg.eigh(exact.T @ exact)
    wanted = axes * squares.clip(min=0) ** hearing.POWER @ axes.T
    np.testing.assert_allclose(found.T @ found, wanted, atol=2e-3 * wanted.trace())


def test_a_small_sketch_has_the_leading_directions(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "SKETCHED", 60)  # which is no divisor of the entries
    subspace = subspace_of(model)
    exact = jacobian(model, subspace)
    leading = np.linalg.svd(exact)[2][:4]
    found = heard_directions(model, subspace, SENTENCE, WORD, 0)
    own = np.linalg.svd(found)[2][:4]
    assert ((exact @ own.T) ** 2).sum() > 0.95 * ((exact @ leading.T) ** 2).sum()


def test_what_is_not_heard_is_not_among_them(model: StableDiffusion) -> None:
    wide = Wide(model, 48)
    subspace = subspace_of(wide)
    found = heard_directions(wide, subspace, SENTENCE, WORD, 0)
    # An axis moves a component by its spread, and is heard in proportion to it.
    possible = torch.linalg.qr(subspace.basis.double()[:, None] * wide.rotation)[0].numpy()
    assert ((found @ possible) ** 2).sum() > 0.9 * (found**2).sum()


def test_directions_without_finite_numbers_are_not_heard(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = hearing._read

    def failing(*given: object) -> torch.Tensor:
        found = read(*given)  # type: ignore[arg-type]
        if len(found) > 1:
            found[3] = torch.inf
        return found

    monkeypatch.setattr(hearing, "_read", failing)
    found = heard_directions(model, subspace_of(model), SENTENCE, WORD, 0)
    assert np.isfinite(found).all() and (np.abs(found[:, 3]) < 1e-12).all()
    assert found.any()


@pytest.mark.parametrize("start", ["attention", "lowest"])
def test_a_run_that_listens_goes_on_bit_for_bit(
    model: StableDiffusion,
    clip: Clip,
    images: torch.Tensor,
    start: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = LearnSettings(
        placeholder="<disc>",
        initialization=start,
        popsize=5,
        draws=4,
        sentences=2,
        validation_draws=8,
        calls=200,
    )
    deaf = [record for _, record in learn(settings, model, images, clip)]
    monkeypatch.setattr(learning, "WIDE", 0)
    steps: list[tuple[Learner, Record]] = list(learn(settings, model, images, clip))
    whole, records = steps[-1][0], [record for _, record in steps]
    assert records[0].validation == deaf[0].validation and records[1].gram != deaf[1].gram
    stored = [Record.from_dict(record.to_dict()) for record in records[:3]]
    resumed = list(learn(settings, model, images, clip, stored))[-1][0]
    assert torch.equal(resumed.vectors, whole.vectors)
