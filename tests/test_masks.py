"""Where the thing is found in pictures without masks."""

import pytest
import torch
from torch import Tensor

from evoken.pictures.masks import found_masks
from evoken.pictures.scoring import thing_masks


def disc(side: int, x: float, y: float, radius: float) -> Tensor:
    """1 within the disc, side x side; centre and radius in shares of the side."""
    rows, columns = torch.meshgrid(*(torch.arange(side) / side,) * 2, indexing="ij")
    return ((columns - x) ** 2 + (rows - y) ** 2 < radius**2).float()


def picture(mask: Tensor, thing: tuple[float, ...], behind: Tensor) -> Tensor:
    colour = torch.tensor(thing)[:, None, None]
    return (mask * colour + (1 - mask) * behind)[None]


def plain(side: int) -> Tensor:
    return torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, side, side)


def beach(side: int) -> Tensor:
    """Sky that pales downwards, sea, sand."""
    sky = torch.linspace(0.1, 0.6, side)[:, None].expand(side, side)
    rows = torch.stack([sky - 0.3, sky, torch.full((side, side), 0.9)])
    rows[:, side // 2 :] = torch.tensor([-0.7, 0.0, 0.5])[:, None, None]
    rows[:, 3 * side // 4 :] = torch.tensor([0.9, 0.7, 0.2])[:, None, None]
    return rows


def overlap(found: Tensor, true: Tensor) -> float:
    both, either = (found > 0.5) & (true > 0.5), (found > 0.5) | (true > 0.5)
    return float(both.sum() / either.sum())


@pytest.mark.parametrize("behind", [plain, beach])
@pytest.mark.parametrize("side", [64, 200])
@pytest.mark.parametrize("place", [(0.5, 0.5, 0.3), (0.4, 0.55, 0.2), (0.36, 0.5, 0.34)])
def test_a_thing_is_found(behind: object, side: int, place: tuple[float, float, float]) -> None:
    """Also one that reaches the border."""
    true = disc(side, *place)
    found = found_masks(picture(true, (0.8, -0.9, -0.7), behind(side)))  # type: ignore[operator]
    assert found.shape == (1, 1, side, side) and set(found.unique().tolist()) <= {0.0, 1.0}
    assert overlap(found[0, 0], true) > 0.85


def test_a_hole_in_a_thing_is_a_part_of_it() -> None:
    true = disc(64, 0.5, 0.5, 0.35)
    ring = true * (1 - disc(64, 0.5, 0.5, 0.2))
    found = found_masks(picture(ring, (0.9, -0.9, -0.9), plain(64)))
    assert overlap(found[0, 0], true) > 0.9


def test_where_nothing_is_found_all_counts() -> None:
    corner = picture(disc(64, 0.08, 0.08, 0.07), (0.9, -0.9, -0.9), plain(64))
    assert found_masks(plain(64)[None]).min() == 1  # one colour
    assert found_masks(corner).min() == 1  # too small, and far from the middle
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert found_masks(noise).mean() > 0.9 or found_masks(noise).mean() < 0.6


def test_each_picture_is_looked_at_alone() -> None:
    pictures = torch.cat(
        [picture(disc(64, 0.5, 0.5, r), (0.9, -0.9, -0.9), plain(64)) for r in (0.2, 0.3)]
    )
    together = found_masks(pictures)
    assert torch.equal(together, torch.cat([found_masks(one[None]) for one in pictures]))


def test_masks_that_are_given_count_more() -> None:
    pictures = picture(disc(64, 0.5, 0.5, 0.3), (0.9, -0.9, -0.9), plain(64)).repeat(2, 1, 1, 1)
    given = torch.ones(2, 1, 64, 64)
    given[0, :, :, :20] = 0.0
    masks = thing_masks(pictures, given)
    assert torch.equal(masks[0], given[0]) and torch.equal(masks[1:], found_masks(pictures[1:]))
    assert torch.equal(thing_masks(pictures, None), found_masks(pictures))
