"""How scores agree with the judge, over the words of all methods: they were found in many ways, and
their faults are of many kinds.
"""

from typing import Any

from benchmarks.agreement import agreements
from benchmarks.evidence.report import NOTHING, Evidence

# What each score should agree with: the judge's share of pictures of the thing, or of those in
# which scene and style are obeyed.
TARGETS = {
    "gain": "judge",
    "reconstruction": "judge",
    "concept": "judge",
    "imagenet": "judge",
    "prompt": "obeyed",
    "editability": "obeyed",
}
GOOD = 0.5  # the judge's share from which a word is well learned


def of_methods(evidence: Evidence) -> dict[str, Any]:
    """Figures of all words, and of those that are well learned; none where rows lack a score."""
    needed = {"judge", "scene", "style", *TARGETS} - {"gain"}
    if NOTHING not in evidence.methods or not needed <= {*evidence.columns}:
        return {}
    rows = []
    for (_, noun, _), row in evidence.rows.items():
        gain = evidence.mean(NOTHING, "loss", [noun]) - row["loss"]
        obeyed = (row["scene"] + row["style"]) / 2
        rows.append({**row, "noun": noun, "gain": gain, "obeyed": obeyed})
    good = [row for row in rows if row["judge"] >= GOOD]
    return agreements(rows, TARGETS, "agreement.methods") | agreements(
        good, TARGETS, "agreement.good"
    )
