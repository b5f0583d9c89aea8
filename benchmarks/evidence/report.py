"""What the words of all methods tell: rows of a table, and figures with their intervals."""

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import count, product
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtrit

from benchmarks import figures
from benchmarks.evidence.words import PICTURES
from benchmarks.learn import MEASURES
from evoken.pictures.metrics import Score

Row = Mapping[str, Any]
Results = Mapping[tuple[str, str, int], Row]  # by method, concept and seed
Statistic = Callable[[Sequence[str]], float]  # of concepts, some of them more than once

OURS, THOROUGH, NOTHING = "evoken", "evoken, thorough", "no word"
DTI = ("DTI", "DTI, long")
PLAIN = ("gradients", "gradients, averaged", "gradients, our objective")
# Rivals with gradients: those that take no more calls than evoken's default, and those that take
# no more seconds than its thorough search, among which are all of the others.
EQUAL_CALLS = (*PLAIN, *DTI)
LARGE_STEPS = tuple(f"{name}, equal seconds" for name in PLAIN[1:])
EQUAL_SECONDS = (*LARGE_STEPS, *EQUAL_CALLS)
# What stands beside what, once one of some rivals is there, and the end of its figures' names.
BESIDE = ((THOROUGH, EQUAL_SECONDS, LARGE_STEPS, ""), (OURS, EQUAL_CALLS, PLAIN, "_equal_calls"))
ABOUT = ("seed",)  # numbers in a row that measure nothing
BAD = 0.25  # share of the judge below which a word is one
RESAMPLED = 2_000
LEAST_SPREAD = 0.5**0.5 / PICTURES  # of two seeds, one of which shows the thing once more
FEW = 8  # concepts; the bootstrap of fewer cannot reach far enough


class Evidence:
    """The rows of some methods on the same concepts; a method may have more seeds than another.

    Attributes:
        methods: that were measured on all concepts.
        seeds: how many each was measured with on all of them, from 0 on.
        columns: that all rows have; those of earlier versions have fewer.
    """

    def __init__(
        self,
        results: Results,
        typical: float,
        prefix: str = "evidence",
    ) -> None:
        """
        Args:
            typical: length of the vocabulary's embeddings.
            prefix: of the figures.
        """
        self.prefix = prefix
        self.nouns = sorted({noun for _, noun, _ in results})
        its = dict.fromkeys(method for method, _, _ in results)
        self.seeds = {m: n for m in its if (n := self._complete(results, m))}
        self.methods = list(self.seeds)
        self.rows = {
            (m, *pair): results[m, *pair]
            for m, seeds in self.seeds.items()
            for pair in product(self.nouns, range(seeds))
        }
        self.columns = [c for c in MEASURES if all(c in row for row in self.rows.values())]
        self.typical = typical

    def _complete(self, results: Results, method: str) -> int:
        """Seeds that a method has on all concepts."""
        return next(
            s for s in count() if not all((method, noun, s) in results for noun in self.nouns)
        )

    def pairs(
        self, methods: Sequence[str], nouns: Sequence[str] | None = None
    ) -> list[tuple[str, int]]:
        """Concepts and seeds that some methods have in common, concept by concept."""
        seeds = range(min(self.seeds[method] for method in methods))
        return list(product(self.nouns if nouns is None else nouns, seeds))

    def values(self, method: str, name: str, nouns: Sequence[str] | None = None) -> list[float]:
        """Of a method's rows, concept by concept."""
        return [self.rows[method, *pair][name] for pair in self.pairs([method], nouns)]

    def mean(self, method: str, name: str, nouns: Sequence[str] | None = None) -> float:
        """Of a method's rows."""
        return statistics.mean(self.values(method, name, nouns))

    def best(self, methods: Sequence[str], name: str, sign: int = 1) -> str:
        """The method with the largest mean, or the smallest with the sign -1."""

        def value(method: str) -> float:
            mean = sign * self.mean(method, name)
            return mean if np.isfinite(mean) else -np.inf

        return max((m for m in methods if m in self.methods), key=value)

    def calls_to(self, method: str, noun: str, seed: int, loss: float) -> float:
        """Calls until a word's held-out loss is so low, between the points of its curve; infinite
        if it never is.
        """
        before: tuple[float, float] | None = None
        for calls, _, found in self.rows[method, noun, seed]["curve"]:
            if found <= loss:
                if before is None or before[1] == found:
                    return float(calls)
                share = (before[1] - loss) / (before[1] - found)
                return float(before[0] + share * (calls - before[0]))
            before = (calls, found)
        return float("inf")

    def table(self) -> dict[str, Any]:
        """The means of every method, of all that their rows measure: ``PREFIX.METHOD.COLUMN``, and
        its name. Seconds are those of rows in the precision of most, where every concept has some.
        """
        found: dict[str, Any] = {}
        usual = statistics.mode(row["precision"] for row in self.rows.values())
        for method in self.methods:
            its = f"{self.prefix}.{slug(method)}"
            its_rows = {key[1:]: row for key, row in self.rows.items() if key[0] == method}
            rows = [*its_rows.values()]
            numbers = [k for k, v in rows[0].items() if isinstance(v, int | float)]
            # Rows may be older than a score.
            columns = [k for k in numbers if k not in ABOUT and all(k in row for row in rows)]
            timed = {at: row for at, row in its_rows.items() if row["precision"] == usual}
            if len(timed) < len(rows):
                columns.remove("seconds")
            found |= {f"{its}.{name}": round(self.mean(method, name), 4) for name in columns}
            if {noun for noun, _ in timed} == {noun for noun, _ in its_rows}:
                seconds = statistics.fmean(row["seconds"] for row in timed.values())
                found[f"{its}.seconds"] = round(seconds, 4)
            found |= {f"{its}.n": len(self.values(method, "loss")), f"{its}.method": method}
        return found

    def found(self) -> dict[str, Any]:
        """The figures that have all their rows, with intervals over concepts."""
        statistics_, medians = dict[str, Statistic](), dict[str, Statistic]()
        if OURS not in self.methods:
            return {}
        found = dict[str, Any]()
        for ours, names, needed, suffix in BESIDE:
            its = [name for name in names if name in self.methods]
            if ours in self.methods and {*needed} & {*its}:
                beside = self._beside_gradients(ours, its)
                statistics_ |= {f"{name}{suffix}": s for name, s in beside.items()}
                judged = self.best(its, "judge")
                found[f"{self.prefix}.bad_words{suffix}"] = self.bad_words(ours)
                found[f"{self.prefix}.bad_words_gradient{suffix}"] = self.bad_words(judged)
        if its := [name for name in DTI if name in self.methods]:
            best = self.best(its, "judge")
            statistics_["judge_share_vs_dti_equal_calls"] = self._ratio(OURS, "judge", best)
        for name, rival in (("official", "GFTI, official"), ("zoodip", "ZOODiP")):
            if rival in self.methods:
                medians[f"calls_ratio_{name}"] = self._calls_ratio(rival, OURS)
        statistics_["norm_ratio"] = lambda nouns: self.mean(OURS, "norm", nouns) / self.typical
        shares = {"judge_share": self._mean_of(OURS, "judge")}
        if "blue" in self.columns:
            shares["colour_edit_keeps_shape"] = self._mean_of(OURS, "blue")
        if NOTHING in self.methods:
            medians["calls_to_90_percent"] = self._calls_to_90_percent
        for name, statistic in statistics_.items():
            least = -math.inf if name.startswith("gain") else 0.0
            found[f"{self.prefix}.{name}"] = self.interval(statistic, least=least)
        for name, statistic in shares.items():
            found[f"{self.prefix}.{name}"] = self.interval(statistic, most=1.0)
        for name, statistic in medians.items():
            found[f"{self.prefix}.{name}"] = self.interval(statistic, median=True)
        searches = [m for m in self.methods if m not in (*EQUAL_CALLS, *EQUAL_SECONDS, NOTHING)]
        rivals = [m for m in searches if not m.startswith("evoken")]
        if not rivals:
            return found
        place = 1 + sum(self.mean(m, "loss") < self.mean(OURS, "loss") for m in rivals)
        return found | {
            f"{self.prefix}.rank_among_searches": place,
            f"{self.prefix}.searches": 1 + len(rivals),
        }

    def of_styles(self) -> dict[str, Any]:
        """What styles are measured for: the judge's share of ours, and of the best gradients."""
        shares = {"style_judge_share": [OURS], "style_judge_share_gradient": EQUAL_CALLS}
        found = {}
        for name, methods in shares.items():
            if its := [m for m in methods if m in self.methods]:
                best = self.best(its, "judge")
                found[f"evidence.{name}"] = self.interval(self._mean_of(best, "judge"), most=1.0)
        return found

    def of_starts(self) -> dict[str, Any]:
        """Calls of a search that begins anywhere, by those until the same loss from a start that
        the images decide (Figure 5).
        """
        pairs = {
            "paper": ("paper, random start", "GFTI, paper"),
            "evoken": ("evoken, random start", OURS),
        }
        return {
            f"{self.prefix}.calls_ratio_of_start_{name}": self.interval(
                self._calls_ratio(*pair), median=True
            )
            for name, pair in pairs.items()
            if set(pair) <= set(self.methods)
        }

    def _mean_of(self, method: str, name: str) -> Statistic:
        return lambda nouns: self.mean(method, name, nouns)

    def _beside_gradients(self, ours: str, gradients: list[str]) -> dict[str, Statistic]:
        judged = self.best(gradients, "judge")
        lowest = self.best(gradients, "loss", -1)
        found: dict[str, Statistic] = {
            "judge_share_vs_gradient": self._ratio(ours, "judge", judged),
        }
        for score in ("concept", "prompt"):
            if score in self.columns:
                best = self.best(gradients, score)
                found[f"{score}_vs_gradient"] = self._ratio(ours, score, best)
        if min(self.seeds[ours], self.seeds[judged]) > 1:
            found["seed_spread_vs_gradient"] = lambda nouns: (
                self._seed_spread(ours, nouns)
                / max(self._seed_spread(judged, nouns), LEAST_SPREAD / len(nouns))
            )
        if NOTHING in self.methods:
            found["gain_vs_gradient_over_empty"] = lambda nouns: self._gain(ours, lowest, nouns)
        return found

    def _ratio(self, ours: str, name: str, rival: str) -> Statistic:
        return lambda nouns: self.mean(ours, name, nouns) / max(self.mean(rival, name, nouns), 1e-9)

    def _gain(self, ours: str, rival: str, nouns: Sequence[str]) -> float:
        """Of the loss, over no word at all: ours by the rival's."""
        nothing = self.mean(NOTHING, "loss", nouns)
        gain, its = (nothing - self.mean(m, "loss", nouns) for m in (ours, rival))
        return gain / max(its, 1e-9)

    def _calls_ratio(self, rival: str, ours: str) -> Statistic:
        """The rival's calls until the lowest loss that it ever has, by ours until that loss."""

        def statistic(nouns: Sequence[str]) -> float:
            ratios = []
            for pair in self.pairs([rival, ours], nouns):
                loss = min(point[2] for point in self.rows[rival, *pair]["curve"])
                its, own = (self.calls_to(m, *pair, loss) for m in (rival, ours))
                ratios.append(its / own)
            return statistics.median(ratios)

        return statistic

    def _calls_to_90_percent(self, nouns: Sequence[str]) -> float:
        """Of ours, to nine tenths of its own gain over no word."""
        found = []
        for pair in self.pairs([NOTHING, OURS], nouns):
            nothing, row = self.rows[NOTHING, *pair]["loss"], self.rows[OURS, *pair]
            loss = nothing - 0.9 * (nothing - row["loss"])
            found.append(min(row["calls"], self.calls_to(OURS, *pair, loss)))
        return statistics.median(found)

    def bad_words(self, method: str) -> dict[str, Any]:
        """The share of a method's words that are bad. Its interval is that of a share of as many as
        there are concepts: seeds of a concept are not independent.
        """
        share = statistics.mean(value < BAD for value in self.values(method, "judge"))
        return self._written(Score.of_share(share, len(self.nouns)), 4)

    def _seed_spread(self, method: str, nouns: Sequence[str]) -> float:
        """Standard deviation of the judge's share over seeds, in the mean over concepts."""
        return statistics.mean(statistics.stdev(self.values(method, "judge", [n])) for n in nouns)

    def interval(
        self,
        statistic: Statistic,
        digits: int = 4,
        least: float = 0.0,
        most: float = math.inf,
        median: bool = False,
    ) -> dict[str, Any]:
        """A statistic, and its 95 % interval over concepts: percentiles of the bootstrap, further
        out as Student's t is ("expanded percentile", Hesterberg 2015, arXiv:1411.5279). With fewer
        than FEW concepts, Student's t of the jackknife (Tukey 1958) as far as the statistic can
        be, unless it is a median, for which the jackknife is wrong (Efron 1979).
        """
        if 1 < len(self.nouns) < FEW and not median:
            score = self._jackknife(statistic)
            within = Score(score.value, max(score.low, least), min(score.high, most))
            return self._written(within, digits)
        rng = np.random.default_rng(0)
        drawn = [
            statistic([self.nouns[i] for i in rng.integers(len(self.nouns), size=len(self.nouns))])
            for _ in range(RESAMPLED)
        ]
        n, tail = len(self.nouns), 0.0
        if n > 1:
            tail = float(ndtr(-((n / (n - 1)) ** 0.5) * stdtrit(n - 1, 0.975)))
        low, high = np.percentile(drawn, [100 * tail, 100 * (1 - tail)])
        return self._written(Score(statistic(self.nouns), float(low), float(high)), digits)

    def _jackknife(self, statistic: Statistic) -> Score:
        n = len(self.nouns)
        left_out = [statistic([*self.nouns[:i], *self.nouns[i + 1 :]]) for i in range(n)]
        reach = float(stdtrit(n - 1, 0.975) * np.std(left_out) * (n - 1) ** 0.5)
        value = statistic(self.nouns)
        return Score(value, value - reach, value + reach)

    def _written(self, score: Score, digits: int) -> dict[str, Any]:
        """As figures have it."""
        return figures.interval(score.value, score.low, score.high, len(self.nouns), digits)


def slug(method: str) -> str:
    """A method's name as a part of a figure's."""
    return re.sub(r"\W+", "-", method).strip("-").lower()
