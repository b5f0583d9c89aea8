"""An iterate as a line of ``records.jsonl``, and which of a picture's lines to take."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from evoken.flowopt.compare import last_counted
from evoken.flowopt.edit import Iterate
from evoken.flowopt.suggestion import suggested

Record = dict[str, Any]
LEAST = -1e9  # in place of what could not be measured


def record_of(iterate: Iterate) -> Record:
    """All that is kept of an iterate beside its files."""
    step, scores = iterate.step, iterate.scores
    return {
        "iteration": iterate.number,
        "strength": str(iterate.variant.strength),
        "seed": iterate.variant.seed,
        "update": step.iteration,
        "calls": step.calls,
        "residual": listed(step.residual),
        "diverged": step.diverged.tolist(),
        "rmse": listed(iterate.rmse),
        "psnr": listed(iterate.psnr),
        "ssim": listed(iterate.ssim),
        "agreement": listed(iterate.agreement),
        "source_agreement": listed(iterate.source_agreement),
        "gain": listed(scores.gain if scores else None),
    }


def listed(values: Tensor | None) -> list[float | None] | None:
    """As JSON can hold them: what is not finite is null."""
    if values is None:
        return None
    return [x if math.isfinite(x) else None for x in values.tolist()]


def chains(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    """The iterates of each start, by its strength and seed; earlier versions had one start."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        key = (record.get("strength", ""), record.get("seed", 0))
        found.setdefault(key, []).append(record)
    return found


def suggestion_of(records: Sequence[Record], i: int, patience: int) -> int:
    """Which iterate of the i-th picture to take; what came after the last that counts is left out.

    Args:
        records: with agreements.
        patience: of the settings.
    """
    counted = list[Record]()
    for chain in chains(records).values():
        agreements = [_or_least(record["agreement"][i]) for record in chain]
        last = last_counted(agreements, patience)
        counted += chain if last is None else chain[: last + 1]
    number: int = counted[suggested([_gain(record, i) for record in counted])]["iteration"]
    return number


def _gain(record: Record, i: int) -> float:
    """Of an iterate; earlier versions kept the agreements alone."""
    agreement = record["agreement"][i]
    if agreement is None or "gain" in record:
        return LEAST if agreement is None else _or_least(record["gain"][i])
    return _or_least(agreement) - (record["source_agreement"][i] or 0.0)


def _or_least(value: float | None) -> float:
    return LEAST if value is None else value
