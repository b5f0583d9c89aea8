"""Which families draw the pictures of their own pipelines: the ``models.families`` figure.

    python -m benchmarks.families

Every row of docs/models.md counts that does so in each of its small pipelines of the tests, which
have random weights.
"""

import warnings

import torch

from benchmarks import figures
from tests.own_pipelines import NEAR, PIPELINES, SIZES, pictures


def main() -> None:
    agree: dict[str, bool] = {}
    for name, own in PIPELINES.items():
        same = all(torch.allclose(*pictures(name, size), NEAR, NEAR) for size in SIZES)
        agree[own.kind] = agree.get(own.kind, True) and same
    for kind, same in agree.items():
        print(f"{kind:36} {'equal' if same else 'different'}")
    figures.update({"models.families": sum(agree.values())})


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main()
