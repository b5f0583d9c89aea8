"""What the rows of the contest say: figures, curves, and the page that quotes them."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import figures
from benchmarks.documents import ROOT, fill
from benchmarks.evidence import distribution, results
from benchmarks.evidence.agreement import of_methods
from benchmarks.evidence.contest import MARKS
from benchmarks.evidence.curves import curve
from benchmarks.evidence.methods import METHODS
from benchmarks.evidence.report import NOTHING, OURS, THOROUGH, Evidence, slug
from benchmarks.evidence.results import packed, unpacked
from benchmarks.evidence.tables import ALL, concepts


def rows_of(method: str, loss: float, judge: float, curve: list[tuple[float, float]]) -> Any:
    """Of a method that is the same on three concepts and two seeds."""
    row = {"calls": curve[-1][0], "seconds": 9.0, "loss": loss, "judge": judge, "norm": 0.8}
    row |= {"reconstruction": 0.5, "editability": 0.4, "precision": "bfloat16"}
    return {
        (method, noun, seed): {**row, "curve": [[calls, 1.0, at] for calls, at in curve]}
        for noun in ("otter", "squid", "teapot")
        for seed in (0, 1)
    }


def test_figures_say_what_the_rows_say() -> None:
    rows = {
        **rows_of(NOTHING, 1.0, 0.0, [(0, 1.0)]),
        **rows_of(OURS, 0.5, 0.6, [(500, 0.9), (1_000, 0.7), (6_000, 0.5)]),
        **rows_of(THOROUGH, 0.3, 0.7, [(500, 0.9), (48_000, 0.3)]),
        **rows_of("gradients", 0.4, 0.8, [(500, 0.6), (12_000, 0.4)]),
        **rows_of("gradients, averaged, equal seconds", 0.6, 0.4, [(500, 0.7), (8_000, 0.6)]),
        **rows_of("DTI", 0.7, 0.5, [(500, 0.9), (4_800, 0.7)]),
        **rows_of("DTI, long", 0.7, 0.3, [(500, 0.9), (12_000, 0.7)]),
        **rows_of("GFTI, official", 0.8, 0.1, [(500, 1.2), (12_000, 0.8)]),
        **rows_of("random", 0.45, 0.2, [(500, 1.2), (12_000, 0.45)]),
    }
    evidence = Evidence(rows, typical=0.4)
    found = evidence.found()
    medians = {
        k.removeprefix("evidence."): v["median"] for k, v in found.items() if isinstance(v, dict)
    }
    assert medians["judge_share_vs_gradient"] == pytest.approx(0.7 / 0.8)  # in fewer seconds
    assert medians["judge_share_vs_gradient_equal_calls"] == pytest.approx(0.75)
    assert medians["judge_share_vs_dti_equal_calls"] == pytest.approx(0.6 / 0.5)
    assert medians["gain_vs_gradient_over_empty"] == pytest.approx(0.7 / 0.6, abs=1e-4)
    assert medians["gain_vs_gradient_over_empty_equal_calls"] == pytest.approx(0.5 / 0.6, abs=1e-4)
    assert medians["calls_ratio_official"] == pytest.approx(12_000 / 750)  # half-way to 0.7
    assert medians["calls_to_90_percent"] == pytest.approx(1_000 + 5_000 * 0.15 / 0.2)
    assert medians["norm_ratio"] == 2 and medians["bad_words"] == 0
    assert found["evidence.rank_among_searches"] == 2 and found["evidence.searches"] == 3
    assert not {"calls_ratio_zoodip", "colour_edit_keeps_shape"} & set(medians)
    assert found["evidence.judge_share"]["low"] == found["evidence.judge_share"]["high"] == 0.6
    its, table = f"evidence.{slug('GFTI, official')}", evidence.table()
    assert table[f"{its}.loss"] == 0.8 and table[f"{its}.method"] == "GFTI, official"
    assert f"{its}.seed" not in table


def test_seconds_of_another_kind_of_processor_are_not_compared() -> None:
    rows = {
        **rows_of(OURS, 0.5, 0.6, [(500, 0.5)]),
        **rows_of("gradients", 0.4, 0.8, [(500, 0.4)]),
        **rows_of("random", 0.6, 0.2, [(500, 0.6)]),
    }
    for seed in (0, 1):
        rows["random", "otter", seed]["precision"] = "float32"
    rows["gradients", "otter", 1] |= {"precision": "float32", "seconds": 90.0}
    table = Evidence(rows, typical=0.4).table()
    assert {n for n in table if n.endswith(".seconds")} == {
        "evidence.evoken.seconds",
        "evidence.gradients.seconds",
    }
    assert table["evidence.random.calls"] == 500 and table["evidence.gradients.seconds"] == 9


def test_a_rival_that_never_varies_counts_as_varying_by_one_picture() -> None:
    rival = "gradients, averaged, equal seconds"
    rows = rows_of(THOROUGH, 0.5, 0.5, [(500, 0.5)]) | rows_of(OURS, 0.5, 0.5, [(500, 0.5)])
    rows |= rows_of(rival, 0.4, 1.0, [(500, 0.4)])
    for noun in ("otter", "squid"):
        rows[THOROUGH, noun, 1]["judge"] += 1 / 16
    found = Evidence(rows, typical=0.4).found()["evidence.seed_spread_vs_gradient"]
    assert found["median"] == 2  # as two of its things do


def test_what_rows_measure_beside_becomes_a_figure() -> None:
    rows = rows_of(OURS, 0.5, 0.6, [(500, 0.5)])
    for row in rows.values():
        row["blue"] = 0.7
    rows[OURS, "otter", 0]["newer"] = 0.1  # which others lack
    evidence = Evidence(rows, typical=0.4, prefix="evidence.flow")
    assert evidence.found()["evidence.flow.colour_edit_keeps_shape"]["median"] == 0.7
    assert evidence.table()["evidence.flow.evoken.blue"] == 0.7
    assert "evidence.flow.evoken.newer" not in evidence.table()


def test_styles_and_starts_have_figures_of_their_own() -> None:
    rows = {
        **rows_of(OURS, 0.5, 0.3, [(500, 0.9), (1_000, 0.7), (6_000, 0.5)]),
        **rows_of("gradients", 0.4, 0.5, [(500, 0.6)]),
        **rows_of("DTI", 0.4, 0.6, [(500, 0.6)]),
        **rows_of("evoken, random start", 0.7, 0.5, [(500, 1.2), (6_000, 0.7)]),
    }
    evidence = Evidence(rows, typical=0.4)
    shares = {name: found["median"] for name, found in evidence.of_styles().items()}
    assert shares["evidence.style_judge_share"] == 0.3
    assert shares["evidence.style_judge_share_gradient"] == 0.6
    assert evidence.of_starts()["evidence.calls_ratio_of_start_evoken"]["median"] == 6


def test_intervals_of_few_concepts_hold_only_what_can_be() -> None:
    rows = rows_of(NOTHING, 1.0, 0.0, [(0, 1.0)]) | rows_of("DTI", 0.4, 0.6, [(500, 0.6)])
    rows |= rows_of(OURS, 0.5, 0.3, [(500, 0.9), (1_000, 0.7), (6_000, 0.5)])
    rows |= rows_of("ZOODiP", 0.75, 0.2, [(5_000, 0.75)])
    for i, noun in enumerate(sorted({noun for _, noun, _ in rows})):
        for seed in range(2):
            end = 3_000 * (i + 1)
            late = {"judge": float(i == 0), "norm": 5.0**i}
            rows[OURS, noun, seed] |= late | {"curve": [[500, 1.0, 0.9], [end, 1.0, 0.5]]}
    found = Evidence(rows, typical=0.4).found()
    for name in ("judge_share", "norm_ratio", "calls_ratio_zoodip"):
        assert 0 <= found[f"evidence.{name}"]["low"] < found[f"evidence.{name}"]["high"]
    assert found["evidence.judge_share"]["high"] == 1
    assert found["evidence.judge_share_vs_dti_equal_calls"]["low"] == 0
    # Half of the time of the quickest, which no concept is below.
    assert found["evidence.calls_to_90_percent"]["low"] > 1_500


def test_a_word_in_a_row_is_the_word() -> None:
    word = torch.randn(3, 16)
    torch.testing.assert_close(unpacked(packed(word), 16), word, rtol=1e-3, atol=1e-4)


def test_the_best_variant_is_of_the_concepts_to_tune_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path / "rows.jsonl")
    with pytest.raises(SystemExit, match="gradients, averaged is not tuned"):
        results.best_variant("gradients, 1 word", "stickers-flow")
    best = list(ALL["gradients, averaged"].variants)[1]
    for noun in concepts(True, 4):
        variants = sorted(ALL["gradients, averaged"].variants, key=lambda v: v != best)
        for loss, variant in enumerate(variants):
            row = {
                "method": "gradients, averaged",
                "variant": variant,
                "noun": noun,
                "seed": 0,
            }
            row |= {"loss": loss, "weights": results.weights("stickers")}
            figures.append(results.RESULTS, [row])
    assert results.best_variant("gradients, 1 word", "stickers-flow") == best
    assert results.best_variant("evoken", "stickers") == ""


def test_the_page_explains_every_method() -> None:
    page = (figures.FILE.parent / "evidence.md").read_text(encoding="utf-8")
    assert not [name for name in ALL if f"| {name} |" not in page and "equal sec" not in name]


def test_aims_are_met_or_missed() -> None:
    known = {
        "evidence.bad_words": {"median": 0.1, "low": 0.0, "high": 0.2},
        "evidence.bad_words_gradient": {"median": 0.05, "low": 0.0, "high": 0.2},
        "evidence.calls_ratio_official": {"median": 24.04, "low": 20.0, "high": 30.0},
        "evidence.rank_among_searches": 1,
    }
    rows = fill("<!-- table evidence.aims -->\n<!-- end -->", known).splitlines()[3:-1]
    assert [row.split(" | ")[1:] for row in rows] == [
        ["at least 20", "24.04", "20 to 30", "met |"],
        ["at most 1", "1", "", "met |"],
        ["at most 0.05", "0.10", "0 to 0.20", "missed |"],
    ]


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    text = "<!-- table {} -->\n<!-- end -->\n<!-- picture a.svg: Curves -->\n<!-- end -->"
    for name in ("evidence.flow", "evidence.aims"):
        found = fill(text.format(name), {"evidence.evoken.loss": 0.1}, tmp_path)
        assert "Not measured yet." in found and "![" not in found
    (tmp_path / "a.svg").touch()
    assert "![Curves](a.svg)" in fill(text.format("evidence"), {}, tmp_path)
    known = {"evidence.a-b.loss": 0.1, "evidence.a-b.method": "A, b", "evidence.c.megabytes": 3}
    rows = fill(text.format("evidence"), known, tmp_path).splitlines()
    assert rows[3] == "| A, b | 0.1000 |" and rows[4] == "<!-- end -->"


def test_methods_that_are_not_measured_everywhere_are_left_out() -> None:
    rows = rows_of(OURS, 0.5, 0.6, [(500, 0.5)]) | rows_of("random", 0.5, 0.6, [(500, 0.5)])
    del rows["random", "squid", 0]
    evidence = Evidence(rows, typical=0.4)
    assert evidence.methods == [OURS]
    assert "evidence.rank_among_searches" not in evidence.found()  # first of one is no place
    assert evidence.calls_to(OURS, "otter", 0, 0.4) == float("inf")


def test_a_method_counts_with_the_seeds_that_it_has_everywhere() -> None:
    rows = {
        **rows_of(NOTHING, 1.0, 0.0, [(0, 1.0)]),
        **rows_of(OURS, 0.5, 0.6, [(500, 0.75), (1_000, 0.5)]),
        **rows_of("gradients", 0.4, 0.8, [(500, 0.4)]),
        **rows_of("ZOODiP", 0.75, 0.2, [(5_000, 0.75)]),
    }
    for method in ("gradients", "ZOODiP"):
        rows[method, "otter", 1] |= {"judge": 0.0, "curve": [[9_000, 1.0, 0.75]]}
        del rows[method, "squid", 1]
    evidence = Evidence(rows, typical=0.4)
    found, table = evidence.found(), evidence.table()
    assert [table[f"evidence.{m}.n"] for m in ("evoken", "gradients")] == [6, 3]
    assert table["evidence.gradients.judge"] == pytest.approx(0.8)
    assert found["evidence.calls_ratio_zoodip"]["median"] == 10
    assert found["evidence.judge_share_vs_gradient_equal_calls"]["n"] == 3  # concepts
    assert "evidence.seed_spread_vs_gradient_equal_calls" not in found


@pytest.mark.skipif(not find_spec("matplotlib"), reason="drawn where the benchmarks run")
def test_every_curve_is_named(tmp_path: Any) -> None:
    from benchmarks.evidence.curves import apart, draw

    points = [(float(mark), 1.0 - mark / 30_000) for mark in MARKS]
    rows = rows_of(NOTHING, 1.0, 0.0, [(0, 1.0)])
    for method in (OURS, "gradients", "random"):
        rows |= rows_of(method, 0.6, 0.5, points)
    draw(Evidence(rows, typical=0.4), tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert all(name in text for name in (OURS, "gradients", "random", "no word"))
    assert apart([0.0, 0.0, 5.0], 1.0, -9.0, 9.0) == [-0.5, 0.5, 5.0]
    assert apart([5.0, 0.0, 0.0], 1.0, 0.0, 5.0) == [5.0, 0.0, 1.0]
    assert apart([4.0, 5.0, 5.0], 1.0, 0.0, 5.0) == [3.0, 4.0, 5.0]


def test_curves_end_where_the_words_are_finished() -> None:
    rows = rows_of(NOTHING, 1.0, 0.0, [(0, 1.0)])
    rows |= rows_of(OURS, 0.5, 0.6, [(500, 0.9), (1_104, 0.8), (1_720, 0.5)])
    found = curve(Evidence(rows, typical=0.4), OURS)
    assert found == [(500, pytest.approx(-0.1)), (1_000, pytest.approx(-0.2)), (1_720, -0.5)]


def test_steps_of_evokens_bases_are_shorter_than_words_and_others_are_not() -> None:
    words = torch.randn(400, 32, generator=torch.Generator().manual_seed(1)) / 10
    found = distribution.steps(words)
    assert {tuple(its.shape) for its in found.values()} == {(distribution.STEPS, 32)}
    compared = distribution.compared(found, words)
    length = {name: compared[f"evidence.distribution.{slug(name)}.length"] for name in found}
    own = ("principal axes", "prior norm", "random, evoken's scale", "full space")
    assert all(length[name] == pytest.approx(distribution.SIGMA, rel=0.1) for name in own)
    assert min(float(length[name]) for name in {*found} - {*own}) > 3
    same = distribution.compared({"itself": words}, words)
    assert same["evidence.distribution.itself.distance"] == 0


def test_scores_are_compared_with_the_judge_over_the_words_of_all_methods() -> None:
    rows = rows_of(NOTHING, 1.0, 0.0, [(0, 1.0)])
    for i, loss in enumerate((0.9, 0.8, 0.7, 0.6)):
        rows |= rows_of(f"method {i}", loss, 0.2 + 0.2 * i, [(500, loss)])
    for row in rows.values():
        row |= {"scene": row["judge"], "style": 0.5, "imagenet": 0.1}
        row |= {"concept": row["judge"] ** 2, "prompt": 1 - row["judge"]}
    found = of_methods(Evidence(rows, typical=0.4))
    within = {k: v["median"] for k, v in found.items() if k.endswith("within")}
    assert found["agreement.methods.words"] == 5 * 6 and found["agreement.good.words"] == 2 * 6
    for which in ("methods", "good"):
        assert within[f"agreement.{which}.gain.within"] == 1
        assert within[f"agreement.{which}.concept.within"] == 1
        assert within[f"agreement.{which}.imagenet.within"] == 0
        assert within[f"agreement.{which}.prompt.within"] == -1
    del rows["method 0", "otter", 0]["concept"]
    assert not of_methods(Evidence(rows, typical=0.4))


def test_the_page_names_the_methods_that_are_not_measured_yet() -> None:
    known, page = figures.read(), (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    named = " ".join(
        page.partition("Not yet in the first table: ")[2].partition(". So ")[0].split()
    )
    missing = [name for name in METHODS if f"evidence.{slug(name)}.method" not in known]
    assert sorted(missing) == sorted(name.strip('"') for name in named.split("; ") if name)
