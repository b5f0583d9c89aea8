"""A word with a LoRA of rank 1 beside it, both by forward passes alone: the ``rank_one.*`` figures.

    python -m benchmarks.rank_one [--concepts 4] [--processes 2]

For things that settings are tuned on: the default search's word; one with twice the calls; and the
former with these calls spent on a LoRA instead. Every cross-attention's projection to values
becomes W + b a^T. The vector a, which all share, tells the word from the rest of its sentences in
what the text encoder makes of them; the b are searched, by the search that finds words.

Results are kept in benchmarks/rank_one.jsonl as they come; the same command goes on.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import figures, learn, pool
from benchmarks.documents import table
from benchmarks.evidence import words
from benchmarks.evidence.tables import concepts
from evoken.arrays import Coords, Vectors
from evoken.evaluation.chunks import total
from evoken.models.families.latent import LatentModel
from evoken.prompts import OBJECT_TEMPLATES
from evoken.search.gauss_newton import GaussNewton
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.settings import preset

RESULTS = Path(__file__).with_suffix(".jsonl")
VALUES = "attn2.to_v"  # how the names of cross-attentions' projections to values end
WORDS = {"word": words.CALLS, "longer": 2 * words.CALLS}  # calls of words alone
LORAS = {"lora": 0.1, "lora-long": 0.3}  # the search's sigma
NAMES = {
    "longer": "word, twice the calls",
    "lora": "word and LoRA, sigma 0.1",
    "lora-long": "word and LoRA, sigma 0.3",
}
RIDGE = 0.01  # of the mean square of what is read
PICTURES = 16

Job = tuple[str, str]  # method and thing


def told_apart(model: LatentModel, word: Vectors) -> Tensor:
    """Width x 1, float64: a, for which a'h is 1 where the encoder reads the word, as much less
    behind it as what it reads there depends on the word, and 0 elsewhere; by least squares over the
    sentences that words are learned in.
    """
    sentences = [t.format(learn.WORD) for t in OBJECT_TEMPLATES]
    read, without = (
        model.condition(sentences, {learn.WORD: its[None]}).double().flatten(0, 1)
        for its in (word, model.nothing())
    )
    changed = (read - without).norm(dim=1)
    square = read.T @ read / len(read)
    square += RIDGE * read.square().mean() * torch.eye(len(square))
    return torch.linalg.solve(square, read.T @ (changed / changed.max()) / len(read))[:, None]


class RankOne:
    """The vectors b of all projections, side by side as coordinates: in units of the typical size
    of what a projection gives.
    """

    def __init__(self, model: LatentModel, word: Vectors) -> None:
        named = model.denoiser.named_modules()
        self._projections: list[nn.Linear] = [part for n, part in named if n.endswith(VALUES)]
        self._a, sentence = told_apart(model, word), OBJECT_TEMPLATES[0].format(learn.WORD)
        read = model.condition([sentence], {learn.WORD: word[None]})
        with torch.no_grad():
            given = [p(read.to(p.weight.dtype)).double() for p in self._projections]
        self._spreads = [float(values.square().mean().sqrt()) for values in given]

    @property
    def _sizes(self) -> list[int]:
        return [projection.out_features for projection in self._projections]

    @property
    def dimension(self) -> int:
        """How many numbers are searched."""
        return sum(self._sizes)

    @contextmanager
    def put(self, coords: Coords, draws: int = 0) -> Iterator[None]:
        """Within the block, the model has LoRAs.

        Args:
            coords: candidate x dimension.
            draws: rows of every candidate, one after the other; 0 if all rows are of one candidate.
        """
        parts = torch.from_numpy(coords).split(self._sizes, 1)
        hooks = [
            projection.register_forward_hook(_Added(self._a, spread * b, draws))
            for projection, b, spread in zip(self._projections, parts, self._spreads, strict=True)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class _Added:
    """A hook that adds b a'h to what a projection makes of h, row by row as they come."""

    def __init__(self, a: Tensor, b: Tensor, draws: int) -> None:
        self._a, self._alike, self._done = a, not draws, 0
        self._b = b.repeat_interleave(max(1, draws), 0)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        b = self._b
        if not self._alike:
            b, self._done = b[self._done : self._done + len(output)], self._done + len(output)
        added = (inputs[0].double() @ self._a) * b[:, None]
        return (output.double() + added).to(output.dtype)


def searched(learner: Learner, sigma: float, calls: int) -> tuple[RankOne, Coords]:
    """The LoRA beside a learned word that is best on the validation draws; none, if none helps."""
    objective, settings, word = learner.objective, learner.settings, learner.vectors
    lora = RankOne(learn.measure.model, word)
    generations = calls // (objective.calls(settings.popsize) + objective.validation_calls)
    about = (lora.dimension, settings.seed, settings.popsize, sigma, generations)
    search = GaussNewton(*about)
    best, lowest = search.center, objective.validate(word)
    for generation in range(learner.generation + 1, learner.generation + 1 + generations):
        coords, parts = search.ask(), []
        for chunk in objective.split(len(coords), generation, gram=True):
            with lora.put(coords, chunk.stop - chunk.start):
                parts.append(objective.part(word.expand(len(coords), -1, -1), chunk))
        search.tell(total(parts))
        with lora.put(search.center[None]):
            loss = objective.validate(word)
        if loss < lowest:
            best, lowest = search.center, loss
    return lora, best


@cache
def learned(noun: str, calls: int) -> Learner:
    """After a word was learned; kept for the LoRAs beside it."""
    measure = learn.measure
    settings = preset("default", placeholder=learn.WORD, calls=calls)
    learner = Learner(settings, measure.model, learn.concept_images(noun), measure.clip)
    while not learner.finished:
        learner.step()
    return learner


def measured(job: Job) -> dict[str, Any]:
    """The scores of one."""
    method, noun = job
    learner = learned(noun, WORDS.get(method, words.CALLS))
    row: dict[str, Any] = {"weights": learn.weights(), "method": method, "noun": noun}
    if method in WORDS:
        scores = learn.measure(noun, learner.vectors)
        return row | {"calls": learner.calls, "numbers": learner.vectors.numel()} | scores
    before = learn.measure.model.calls
    lora, coords = searched(learner, LORAS[method], words.CALLS)
    calls = learner.calls + learn.measure.model.calls - before
    with lora.put(coords[None]):
        scores = learn.measure(noun, learner.vectors)
    numbers = learner.vectors.numel() + lora.dimension
    return row | {"calls": calls, "numbers": numbers} | scores


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=int, default=4)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one thread in each")
    options = parser.parse_args()
    nouns, methods = concepts(True, options.concepts), [*WORDS, *LORAS]
    jobs = [(method, noun) for noun in nouns for method in methods]
    there = {(row["method"], row["noun"]) for row in done()}
    missing = [job for job in jobs if job not in there]
    loaded = (options.processes, words.prepare, "stickers", PICTURES)
    for row, _, left in pool.measured(measured, missing, *loaded) if missing else ():
        figures.append(RESULTS, [row])
        print(
            f"{row['method']:9} {row['noun']:14} loss {row['loss']:.4f}  judge {row['judge']:.2f}  "
            f"({left:.0f} min left)",
            flush=True,
        )
    found = dict[str, Any]()
    for method in methods:
        its = [r for r in done() if r["method"] == method and r["noun"] in nouns]
        columns = [k for k in ("numbers", *learn.MEASURES) if k in its[0]]
        means = {k: round(statistics.mean(r[k] for r in its), 4) for k in columns}
        about: dict[str, Any] = {"n": len(its), "method": NAMES.get(method, method)}
        found |= {f"rank_one.{method}.{k}": value for k, value in (means | about).items()}
    figures.update(found)
    print("\n" + table("rank_one", found))
    return 0


def done() -> list[dict[str, Any]]:
    """The results on these weights."""
    return [row for row in figures.results(RESULTS) if row["weights"] == learn.weights()]


if __name__ == "__main__":
    sys.exit(main())
