"""How steps, starts and learned words are distributed beside the vocabulary (the paper's Figure 6):
the ``evidence.distribution.*`` figures and docs/sheets/evidence-distribution.svg.

    python -m benchmarks.evidence.distribution

Steps are W_p Q with Q from a normal distribution of mean 0 and deviation 0.5, as in the paper, for
every W_p that there is. Learned words are those of benchmarks/evidence.jsonl.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import gaussian_kde, wasserstein_distance
from torch import Tensor

from benchmarks import figures
from benchmarks.evidence.publish import SHEETS
from benchmarks.evidence.report import slug
from benchmarks.evidence.results import best_variant, done, unpacked
from benchmarks.evidence.tables import REPORTED, concepts
from benchmarks.learn import concept_images
from evoken.models.load import load_clip, load_model
from evoken.seeds import torch_generator
from evoken.spec import ModelSpec
from evoken.textual_inversion.initialization import cross_attention
from evoken.textual_inversion.subspace import (
    identity_basis,
    normal_basis,
    pca_basis,
    prior_basis,
    unit_pca_basis,
)

AXES, SIGMA, STEPS = 256, 0.5, 500
LEARNED = ("evoken", "evoken, short", "GFTI, paper", "gradients, averaged", "DTI")
SHEET = SHEETS / "evidence-distribution.svg"
COLOURS = (
    *("#1864ab", "#c2410c", "#2f9e44", "#9c36b5"),
    *("#495057", "#e67700", "#0b7285", "#a61e4d"),
)
WIDEST = 6  # of the drawing, in the vocabulary's deviations
# By name: word x width.
Samples = Mapping[str, Tensor]


def steps(vocabulary: Tensor) -> Samples:
    """W_p Q for every W_p, which has as many axes as the paper's."""
    generator = torch_generator(0, 0, "distribution")
    words, width = vocabulary.shape
    most = min(AXES, width, words - 1)
    free = torch.randn(AXES, width, generator=generator)
    projections = {
        "random, deviation 1": free,
        "random, deviation 1/sqrt(d)": free / AXES**0.5,
        "principal axes of length 1": unit_pca_basis(vocabulary, most),
        "principal axes": pca_basis(vocabulary, most),
        "prior norm": prior_basis(vocabulary, AXES, 1.0, generator),
        "random, evoken's scale": normal_basis(vocabulary, AXES, generator),
        "full space": torch.diag(identity_basis(vocabulary)),
    }
    return {
        name: SIGMA * torch.randn(STEPS, len(basis), generator=generator) @ basis
        for name, basis in projections.items()
    }


def starts() -> Samples:
    """Eq. 4 of the reported concepts, with CLIP's temperature and without any."""
    model, clip = load_model(ModelSpec()), load_clip()
    images = [concept_images(noun) for noun in concepts(False, REPORTED)]
    vocabulary = model.vocabulary()
    found = {
        name: torch.cat([cross_attention(clip, i, vocabulary, "object", t) for i in images])
        for name, t in (("start, Eq. 4", None), ("start, no temperature", 1.0))
    }
    return found | {"start, no word": model.nothing()}


def learned(width: int) -> Samples:
    """The words of the reported concepts that were kept."""
    known, nouns = done("stickers"), concepts(False, REPORTED)
    found = {}
    for method in LEARNED:
        rows = [
            row
            for (name, variant, noun, _), row in known.items()
            if name == method and noun in nouns and "word" in row
            if variant == best_variant(method, "stickers")
        ]
        if rows:
            found[f"learned, {method}"] = torch.cat([unpacked(r["word"], width) for r in rows])
    return found


def compared(samples: Samples, vocabulary: Tensor) -> dict[str, float | str]:
    """How far components are from the vocabulary's: the Wasserstein distance of their distributions
    in the vocabulary's deviations; and lengths by those of the vocabulary.
    """
    deviation, typical = float(vocabulary.std()), float(vocabulary.norm(dim=1).median())
    found: dict[str, float | str] = {}
    for name, words in samples.items():
        its = f"evidence.distribution.{slug(name)}"
        distance = wasserstein_distance(
            *(x.flatten().double().numpy() for x in (words, vocabulary))
        )
        found[f"{its}.method"] = name
        found[f"{its}.distance"] = round(distance / deviation, 4)
        found[f"{its}.length"] = round(float(words.norm(dim=1).median()) / typical, 4)
    return found


def draw(samples: Samples, vocabulary: Tensor, file: Path) -> None:
    """Densities of components, in the vocabulary's deviations: a panel for steps and one for
    starts and words, each with the vocabulary behind.
    """
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "evoken", "svg.fonttype": "none", "font.size": 9}
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    x = np.linspace(-WIDEST, WIDEST, 241)
    deviation = float(vocabulary.std())

    def density(words: Tensor) -> NDArray[np.float64]:
        numbers = (words.flatten().double() / deviation).numpy()
        return np.asarray(gaussian_kde(numbers[:: max(1, len(numbers) // 4_000)])(x))

    whole = [name for name in samples if name.startswith(("start", "learned"))]
    titles = ("steps from the start, W Q", "starts and learned words")
    for panel, title in zip(panels, titles, strict=True):
        panel.fill_between(x, density(vocabulary), color="#dee2e6", label="vocabulary")
        its = whole if panel is panels[1] else [n for n in samples if n not in whole]
        for i, name in enumerate(its):
            look = {"color": COLOURS[i], "ls": ("-", "--", ":", "-.")[i % 4]}
            panel.plot(x, density(samples[name]), lw=1.3, label=name, **look)
        panel.set_title(title)
        panel.set_xlabel("component, in the vocabulary's deviations")
        panel.spines[["top", "right"]].set_visible(False)
        under = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncol": 2}
        panel.legend(fontsize=8, frameon=False, **under)
    panels[0].set_ylabel("density")
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    vocabulary = load_model(ModelSpec()).vocabulary().vectors
    centred = vocabulary - vocabulary.mean(0)
    moved, words = steps(vocabulary), {**starts(), **learned(vocabulary.shape[1])}
    # A step is compared with what differs between words, a word with words.
    figures.update(compared(moved, centred) | compared(words, vocabulary))
    draw({**moved, **words}, vocabulary, SHEET)


if __name__ == "__main__":
    main()
