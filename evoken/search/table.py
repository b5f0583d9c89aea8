"""The searches by name: a new one is a file in this folder and a row here.

The classes are imported when one is needed: settings are made of this table, and need no numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from evoken.options import one_of

if TYPE_CHECKING:
    from evoken.search.base import Search


class Row(NamedTuple):
    """A search.

    Attributes:
        module, name: where its class is.
        wants_gram: whether ``tell`` needs ``Evaluation.gram``.
        has_best: whether ``best`` differs from ``center``.
        reach: length of the longest first step in sigmas; reach * sigma is in the first record.
        hears: whether ``hear`` is of use to it.
        sigma: its first steps where a run minimises Eq. 1, in spreads of the vocabulary.
        suited: other settings of such a run that suit it, where neither preset nor user says
            otherwise.
    """

    module: str
    name: str
    sigma: float
    wants_gram: bool = False
    has_best: bool = False
    reach: float = 1.0
    hears: bool = False
    suited: Mapping[str, float] = {}

    def load(self) -> type[Search]:
        """The class."""
        found: type[Search] = getattr(import_module(self.module), self.name)
        return found


SEARCHES = {
    # Its model averages the draws of many generations, so it prefers more directions; the others
    # rank on these draws. Steps are long because long words are learned best (decision 18).
    "gauss-newton": Row(
        "evoken.search.gauss_newton",
        "GaussNewton",
        sigma=30.0,
        wants_gram=True,
        reach=8.0,  # sigma is that of finite differences
        hears=True,
        suited={"popsize": 61, "draws": 8},
    ),
    "cma": Row("evoken.search.cma", "CMAES", sigma=3.0, has_best=True),
    "sep-cma": Row("evoken.search.cma", "SeparableCMAES", sigma=30.0, has_best=True),
    "zero-order": Row("evoken.search.zero_order", "ZeroOrderAdam", sigma=0.5),
    "random": Row("evoken.search.random_search", "RandomSearch", sigma=1.0),
}


def search_of(name: str) -> Row:
    """The row of a search; raises ``SettingError`` if there is none of this name."""
    one_of("search", name, tuple(SEARCHES))
    return SEARCHES[name]


def suited(setting: str) -> str:
    """The values of a setting that suit searches, in words."""
    rows = SEARCHES.items()
    return _told({name: row.suited[setting] for name, row in rows if setting in row.suited})


def sigmas() -> str:
    """The first steps of searches, in words."""
    return _told({name: row.sigma for name, row in SEARCHES.items()})


def _told(values: Mapping[str, float]) -> str:
    return ", ".join(f"{value:g} for {name}" for name, value in values.items())
