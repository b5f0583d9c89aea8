"""The searches by name: a new one is a file in this folder and a row here."""

from evoken.options import one_of
from evoken.search.base import Search
from evoken.search.cma import CMAES, SeparableCMAES
from evoken.search.gauss_newton import GaussNewton
from evoken.search.random_search import RandomSearch
from evoken.search.zero_order import ZeroOrderAdam

SEARCHES: dict[str, type[Search]] = {
    "cma": CMAES,
    "sep-cma": SeparableCMAES,
    "zero-order": ZeroOrderAdam,
    "gauss-newton": GaussNewton,
    "random": RandomSearch,
}


def search_of(name: str) -> type[Search]:
    """The class of a search; raises ``SettingError`` if there is none of this name."""
    one_of("search", name, tuple(SEARCHES))
    return SEARCHES[name]
