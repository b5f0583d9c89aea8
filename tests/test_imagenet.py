"""The network of the benchmarks that is neither CLIP nor the judge."""

import pytest
import torch

from benchmarks.imagenet import ImageNet, at_hand
from benchmarks.learn import concept_images, concept_masks
from evoken.pictures.metrics import concept_score

pytestmark = pytest.mark.skipif(not at_hand(), reason="needs the dependency group bench")


def test_it_knows_a_thing_again_and_tells_it_from_others() -> None:
    network = ImageNet()
    images, masks = concept_images("otter", 3), concept_masks("otter", 3)
    own = concept_score(network, concept_images("otter", 4, seed=77), images, masks)
    other = concept_score(network, concept_images("teapot", 4, seed=77), images, masks)
    assert own.low > other.high
    features, patches = network.image_features(images), network.patch_features(images)
    assert features.shape == (3, 1280) and patches.shape == (3, 7, 7, 1280)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
