"""The figures and curves of what has been measured."""

from collections.abc import Sequence

from benchmarks import figures
from benchmarks.evidence import curves
from benchmarks.evidence.ablations import STARTS
from benchmarks.evidence.agreement import of_methods
from benchmarks.evidence.methods import EQUAL_SECONDS
from benchmarks.evidence.report import Evidence, slug
from benchmarks.evidence.results import RESULTS, best_variant, done
from benchmarks.evidence.tables import Table
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from evoken.textual_inversion.initialization import typical_norms

SHEETS = figures.FILE.parent / "sheets"


def publish(table: Table, model: str) -> None:
    """Write what there is for a table: of methods that have all of its concepts."""
    nouns, seeds, known = table.nouns(table.concepts), range(table.seeds), done(model)
    there = {method for method, _, noun, _ in known if noun in nouns} & {*table.methods}
    best = {method: best_variant(method, model) for method in there}
    rows = {
        (method, noun, seed): row
        for (method, variant, noun, seed), row in known.items()
        if noun in nouns and seed in seeds and variant == best.get(method)
    }
    # A vector's parts of several encoders are alike in length here.
    norms = typical_norms(load_model(ModelSpec(model)).vocabulary())
    typical = sum(norm**2 for norm in norms) ** 0.5
    evidence = Evidence(rows, typical, table.prefix)
    for missing in sorted({*table.methods} - {*evidence.methods}):
        print(f"left out, as not all of its concepts are measured: {missing}")
    found = evidence.table()
    if table.prefix == "evidence.ablations":
        found |= evidence.of_starts()
    elif table.prefix == "evidence.styles":
        found |= evidence.of_styles()
    else:
        found |= evidence.found()
        if table.prefix == "evidence":
            found |= of_methods(evidence)
    # Of rows of several precisions there are none, where there may have been some.
    seconds = tuple(f"{table.prefix}.{slug(method)}.seconds" for method in evidence.methods)
    figures.update(found, instead_of=seconds)
    figures.pack(RESULTS)
    for file, methods in sheets(table).items():
        if {*methods} & {*evidence.methods}:
            curves.draw(evidence, SHEETS / file, methods)


def sheets(table: Table) -> dict[str, Sequence[str]]:
    """The curves that are drawn of a table, and whose they are."""
    # Of one method with two budgets, the curves would hide one another.
    all_calls = [method for method in table.methods if not method.endswith(EQUAL_SECONDS)]
    drawn: dict[str, dict[str, Sequence[str]]] = {
        "evidence": {"evidence.svg": all_calls},
        "evidence.flow": {"evidence-flow.svg": all_calls},
        "evidence.ablations": {"evidence-starts.svg": STARTS},
    }
    return drawn.get(table.prefix, {})
