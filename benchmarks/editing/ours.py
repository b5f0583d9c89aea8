"""Ours, by what evoken offers. Everything that depends on its interface is in this file."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import torch

from benchmarks.editing.problem import Method, Problem, Result, Run, Settings
from evoken.flowopt.edit import Editor, Iterate, Task
from evoken.flowopt.settings import FlowOptSettings, flowopt_preset
from evoken.flowopt.suggestion import suggested
from evoken.models.clip import Clip
from evoken.models.load import load_clip

SUGGESTED = 0.0  # the strength of the pictures that evoken suggests; the others are numbered from 1
DEFAULT = flowopt_preset("edit")
NOISES = {0.0: "", 1.0: ", fresh noise"}  # how its settings are named


def editor_of(settings: FlowOptSettings, p: Problem, clip: Clip | None = None) -> Editor:
    """For the edits of a problem, whose fresh noise is not that of another problem."""
    settings = replace(settings, seed=int(p.edits[0].name.split()[-1]))
    return Editor(Task(p.images, tuple(p.sources), tuple(p.targets)), p.model, settings, clip)


def result_of(editor: Editor, strength: float, iterate: Iterate) -> Result:
    """One picture of every edit."""
    calls = iterate.step.calls / len(iterate.images)
    return Result(strength, calls, iterate.drawn, editor.masks, iterate.images)


def offered(settings: FlowOptSettings) -> Run:
    """What one command draws, and which of it is suggested. Every picture counts the calls until it
    is there; the suggestion, those of all.
    """

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        editor = editor_of(settings, p, _clip())
        found = list(editor.iterates())
        for i, iterate in enumerate(found, 1):
            if i in strengths:
                yield result_of(editor, i, iterate)
        if SUGGESTED in strengths:
            chosen = [found[i] for i in _suggested(found)]
            drawn, pasted = (
                torch.stack([getattr(one, name)[k] for k, one in enumerate(chosen)])
                for name in ("drawn", "images")
            )
            calls = found[-1].step.calls / len(p.edits)
            yield Result(SUGGESTED, calls, drawn, editor.masks, pasted)

    return run


def _suggested(found: Sequence[Iterate]) -> list[int]:
    """Which of the pictures of each edit evoken suggests."""
    scores = [iterate.scores for iterate in found if iterate.scores]  # there is a CLIP
    return [suggested(gains) for gains in torch.stack([s.gain for s in scores]).mT.tolist()]


@cache
def _clip() -> Clip:
    return load_clip()


def guided(steps: int, last: int, fresh: float) -> Run:
    """Without updates. The strength is the guidance."""

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        for guidance in strengths:
            walk = {"steps": steps, "last": last, "fresh": fresh, "guidance": guidance}
            settings = flowopt_preset("edit", **walk)
            editor = editor_of(settings, p)
            (iterate,) = editor.iterates()
            yield result_of(editor, guidance, iterate)

    return run


def updated(eta: float, fresh: float) -> Run:
    """With updates. The strength is their number; fewer change more."""

    def run(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
        most = int(max(strengths))
        settings = flowopt_preset("edit", iterations=most, eta=eta, guidance=4.0, fresh=fresh)
        editor = editor_of(settings, p)
        for iterate in editor.iterates():
            if iterate.step.iteration in strengths:
                yield result_of(editor, iterate.step.iteration, iterate)

    return run


METHODS: dict[str, Method] = {
    "ours": {"default": Settings(offered(DEFAULT), (SUGGESTED, *range(1, DEFAULT.drawn + 1)))},
    "ours, strip": {
        f"last {last} of {n}{noise}": Settings(guided(n, last, fresh), (1.5, 2.5, 4.0, 6.0))
        for n, last in ((8, 7), (15, 12), (15, 14), (15, 15))
        for fresh, noise in NOISES.items()
        if n == 15 or fresh
    },
    "ours, with updates": {
        f"eta {eta}{noise}": Settings(updated(eta, fresh), (1, 2, 4, 6))
        for eta in (0.05, 0.1)
        for fresh, noise in NOISES.items()
    },
}
