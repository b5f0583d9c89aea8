"""Ours, by what evoken offers. Everything that depends on its interface is in this file."""

from collections.abc import Iterator, Sequence
from functools import cache

import torch

from benchmarks.editing.problem import Method, Problem, Result, Run, Settings
from evoken.flowopt.compare import suggested
from evoken.flowopt.edit import Iterate, edit
from evoken.flowopt.settings import FlowOptSettings, flowopt_preset
from evoken.models.clip import Clip
from evoken.models.load import load_clip

SUGGESTED = 0.0  # the strength of the pictures that evoken suggests; the others are numbered from 1
DEFAULT = flowopt_preset("edit")


def offered(settings: FlowOptSettings) -> Run:
    """What one command draws, and which of it is suggested. Every picture counts the calls until it
    is there; the suggestion, those of all.
    """

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        found = list(edit(settings, p.model, p.images, p.sources, p.targets, _clip()))
        count = len(p.edits)
        for i, iterate in enumerate(found, 1):
            if i in strengths:
                yield Result(i, iterate.step.calls / count, iterate.images)
        if SUGGESTED in strengths:
            images = [found[i].images[k] for k, i in enumerate(_suggested(found))]
            yield Result(SUGGESTED, found[-1].step.calls / count, torch.stack(images))

    return run


def _suggested(found: Sequence[Iterate]) -> list[int]:
    """Which of the pictures of each edit evoken suggests."""
    agreements, sources = [i.agreement for i in found], found[0].source_agreement
    assert sources is not None  # there is a CLIP
    rows = torch.stack([a for a in agreements if a is not None]).mT.tolist()
    return [suggested(row, own) for row, own in zip(rows, sources.tolist(), strict=True)]


@cache
def _clip() -> Clip:
    return load_clip()


def guided(last: int) -> Run:
    """Without updates. The strength is the guidance."""

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        for guidance in strengths:
            settings = flowopt_preset("edit", iterations=0, guidance=guidance, last=last)
            (iterate,) = edit(settings, p.model, p.images, p.sources, p.targets)
            yield Result(guidance, iterate.step.calls / len(p.edits), iterate.images)

    return run


def updated(eta: float) -> Run:
    """With updates. The strength is their number; fewer change more."""

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        settings = flowopt_preset("edit", iterations=int(max(strengths)), eta=eta)
        for iterate in edit(settings, p.model, p.images, p.sources, p.targets):
            if iterate.step.iteration in strengths:
                calls = iterate.step.calls / len(p.edits)
                yield Result(iterate.step.iteration, calls, iterate.images)

    return run


METHODS: dict[str, Method] = {
    "ours": {"default": Settings(offered(DEFAULT), (SUGGESTED, *range(1, DEFAULT.iterations + 2)))},
    "ours, strip": {f"last {n} of 15": Settings(guided(n), (1.5, 2.5, 4.0)) for n in (10, 12, 14)},
    "ours, with updates": {
        f"eta {eta}": Settings(updated(eta), (1, 2, 4, 6)) for eta in (0.05, 0.1)
    },
}
