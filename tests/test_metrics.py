"""Scores and their intervals."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp, ttest_rel
from torch import Tensor

from evoken.arrays import Images
from evoken.models.clip import Clip
from evoken.pictures.metrics import (
    Score,
    concept_score,
    covered,
    diversity,
    editability,
    prompt_score,
    uncovered,
)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_a_share_has_scipys_wilson_interval(hits: list[bool]) -> None:
    score = Score.of_hits(hits)
    expected = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    assert (score.low, score.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert score.high - score.low > 0.01  # certain of nothing, even where all are hits
    assert score.n == len(hits)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=50).filter(lambda x: np.std(x) > 1e-6))
def test_a_mean_has_scipys_t_interval(values: list[float]) -> None:
    score = Score.of_cosines(values)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert score.low == pytest.approx(max(-1, expected.low), abs=1e-9)
    assert score.high == pytest.approx(min(1, expected.high), abs=1e-9)
    assert -1 <= score.low <= score.value <= score.high <= 1


@given(
    st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)), min_size=3, max_size=50).filter(
        lambda pairs: np.std([a - b for a, b in pairs]) > 1e-6
    )
)
def test_a_gain_has_scipys_interval_of_pairs(pairs: list[tuple[float, float]]) -> None:
    before, after = zip(*pairs, strict=True)
    score = Score.of_gain(before, after)
    expected = ttest_rel(before, after).confidence_interval(0.95)
    assert score.value == pytest.approx(np.mean(before) - np.mean(after))
    assert score.low == pytest.approx(max(-np.mean(after), expected.low), abs=1e-9)
    assert score.high == pytest.approx(min(np.mean(before), expected.high), abs=1e-9)


def test_a_gain_of_one_draw_may_be_anything_that_losses_allow() -> None:
    assert Score.of_gain([0.5], [0.2]) == Score(0.3, -0.2, 0.5, 1)


def test_one_value_says_nothing_about_its_spread() -> None:
    assert Score.of_cosines([0.5]) == Score(0.5, -1, 1, 1)


@pytest.mark.parametrize("n", [5, 8, 64])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(n: int) -> None:
    samples = np.random.default_rng(n).normal(0.4, 0.1, (4000, n))
    scores = [Score.of_cosines(row.tolist()) for row in samples]
    assert np.mean([s.low <= 0.4 <= s.high for s in scores]) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("n", [8, 64])
@pytest.mark.parametrize("truth", [0.05, 0.3, 0.5, 0.75, 0.99])
def test_intervals_of_shares_hold_the_truth_about_as_often(n: int, truth: float) -> None:
    """Shares come in steps of 1 / n, so coverage is near 95 % and not at it; 1.96 standard errors
    hold the truth in 34 % of samples of 8 where it is 0.05.
    """
    samples = np.random.default_rng(n).random((4000, n)) < truth
    scores = [Score.of_hits(row.tolist()) for row in samples]
    assert np.mean([s.low <= truth <= s.high for s in scores]) > 0.9


@pytest.mark.parametrize(("groups", "spread"), [(3, 0.3), (8, 0.3), (8, 0.1)])
def test_intervals_of_shares_over_unlike_groups_hold_the_truth_as_often(
    groups: int, spread: float
) -> None:
    rng = np.random.default_rng(groups)
    chances = np.clip(rng.normal(0.5, spread, (2000, groups, 1)), 0, 1)
    samples = rng.random((2000, groups, 16)) < chances
    for of, least, most in ((Score.of_groups, 0.92, 0.99), (pooled, 0.0, 0.9)):
        scores = [of(row.tolist()) for row in samples]
        assert least < np.mean([s.low <= 0.5 <= s.high for s in scores]) < most


def pooled(groups: list[list[bool]]) -> Score:
    """As if the hits of a group were not alike."""
    return Score.of_hits([hit for group in groups for hit in group])


def test_a_share_of_one_group_is_that_of_its_hits() -> None:
    hits = [True] * 5 + [False] * 3
    assert Score.of_groups([hits]) == Score.of_hits(hits)
    full = Score.of_groups([[True] * 8] * 4)
    assert (full.value, full.high, full.n) == (1, 1, 32) and full.low < Score.of_hits(
        [True] * 32
    ).low


def test_a_score_is_read_as_it_was_written() -> None:
    score = Score.of_hits([True] * 6 + [False] * 2)
    assert Score.from_dict(asdict(score)) == score
    assert str(score) == "0.750 [0.409, 0.929]"
    old = Score.from_dict({"value": 0.5, "error": 0.1})
    assert (old.value, old.low, old.high) == pytest.approx((0.5, 0.4, 0.6))


class Colours:
    """An encoder whose patches are squares of 4 px, and whose features are their mean colours."""

    def patch_features(self, images: Images) -> Tensor:
        small = torch.nn.functional.avg_pool2d(images, 4).permute(0, 2, 3, 1)
        return torch.nn.functional.normalize(small, dim=-1)

    def image_features(self, images: Images) -> Tensor:
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=-1)


def random_images(seed: int, count: int, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_concept_score_is_the_mean_of_the_best_matches() -> None:
    pictures, images = random_images(0, 3), random_images(1, 2)
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, :, :8], masks[1, :, 4:12, 4:] = 1.0, 1.0
    look = Colours()
    known, theirs = look.patch_features(images), look.patch_features(pictures)
    expected = []
    for picture in theirs:
        of_images = []
        for image, mask in zip(known, masks, strict=True):
            best = [
                max(float(image[r, c] @ other) for other in picture.flatten(0, 1))
                for r in range(4)
                for c in range(4)
                if mask[0, 4 * r, 4 * c]
            ]
            of_images.append(np.mean(best))
        expected.append(np.mean(of_images))
    score = concept_score(look, pictures, images, masks)
    assert score.value == pytest.approx(np.mean(expected), abs=1e-6) and score.n == 3
    whole = concept_score(look, pictures, images, torch.ones(2, 1, 16, 16))
    assert concept_score(look, pictures, images, None) == whole != score


def test_what_is_behind_the_thing_is_no_part_of_the_concept_score() -> None:
    images, mask = random_images(2, 1), torch.zeros(1, 1, 16, 16)
    mask[:, :, 4:12, 4:12] = 1.0
    elsewhere = torch.where(mask > 0, images, random_images(3, 1))
    assert concept_score(Colours(), elsewhere, images, mask).value == pytest.approx(1, abs=1e-6)
    assert concept_score(Colours(), elsewhere, images, None).value < 0.99


def test_a_patch_is_the_things_from_half_of_it_on() -> None:
    masks = torch.zeros(3, 1, 8, 8)
    masks[0, :, :4, :2] = 1.0  # half of one patch, and nothing of the others
    masks[1, :, :3, :1] = 1.0  # less
    masks[2] = 1.0
    assert covered(masks, (2, 2)).flatten(1).sum(1).tolist() == [1, 1, 4]
    assert covered(masks, (2, 2))[:2, 0, 0].all()
    behind = uncovered(masks, (2, 2))
    assert behind.flatten(1).sum(1).tolist() == [4, 4, 4]  # of a whole picture, all alike


def test_diversity_is_the_mean_of_all_pairs_with_a_jackknifes_interval() -> None:
    pictures = random_images(4, 7)
    features = Colours().image_features(pictures).double()

    def mean_of(rows: list[int]) -> float:
        return float(np.mean([1 - features[i] @ features[j] for i in rows for j in rows if i != j]))

    everyone = list(range(7))
    left_out = [mean_of([i for i in everyone if i != one]) for one in everyone]
    error = (6 / 7 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2)) ** 0.5
    score = diversity(Colours(), pictures)
    assert score.value == pytest.approx(mean_of(everyone), abs=1e-6)
    assert score.high - score.value == pytest.approx(2.4469 * error, rel=1e-4)  # t of 6 degrees
    assert diversity(Colours(), pictures[:2]).low == 0 and diversity(Colours(), pictures[:2]).n == 1
    same = diversity(Colours(), pictures[:1].repeat(4, 1, 1, 1))
    assert same.value == pytest.approx(0, abs=1e-6)


def test_the_thing_has_no_say_in_the_prompt_score(clip: Clip) -> None:
    template = "a photo of a {} on the beach"
    masks = torch.zeros(2, 1, 32, 32)
    masks[:, :, 8:24, 8:24] = 1.0
    pictures = random_images(5, 2, 32)
    other = torch.where(masks > 0, random_images(6, 2, 32), pictures)

    def score(images: Tensor, behind: Tensor | None) -> float:
        return prompt_score(clip, {template: images}, {template: behind}).value

    assert score(pictures, masks) == pytest.approx(score(other, masks), abs=1e-6)
    assert abs(score(pictures, None) - score(other, None)) > 1e-4
    text = clip.text_features(["a photo on the beach"])[0]
    expected = (clip.image_features(pictures) @ text).mean()
    assert score(pictures, None) == pytest.approx(float(expected), abs=1e-6)
    assert score(pictures, None) != editability(clip, {template: pictures}).value


def test_what_is_not_seen_is_as_if_it_were_not_there(clip: Clip) -> None:
    pictures = random_images(7, 2, 32)
    seen = torch.ones(2, clip.across, clip.across, dtype=torch.bool)
    whole = clip.image_features(pictures)
    torch.testing.assert_close(clip.partial_features(pictures, seen), whole, atol=1e-5, rtol=1e-4)
    seen[0, :2] = False
    partial = clip.partial_features(pictures, seen)
    assert (partial[0] - whole[0]).abs().max() > 1e-3
    torch.testing.assert_close(partial[1], whole[1], atol=1e-5, rtol=1e-4)
    tokens = clip.model.vision_model.embeddings(clip._pixels(pictures[:1]))
    kept = torch.cat([tokens[:, :1], tokens[:, 1:][:, seen[0].flatten()]], 1)
    vision = clip.model.vision_model
    read = vision.encoder(inputs_embeds=vision.pre_layrnorm(kept)).last_hidden_state[:, 0]
    alone = clip.model.visual_projection(vision.post_layernorm(read))
    expected = torch.nn.functional.normalize(alone, dim=-1)
    torch.testing.assert_close(partial[:1], expected, atol=1e-5, rtol=1e-4)
