"""The directions of the simplest claims of docs/evidence.md, measured on the sticker model."""

import pytest

from benchmarks.evidence.small import CLAIMS, Claim, holds, losses


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_a_claim_holds(claim: Claim) -> None:
    assert holds(claim), losses()
