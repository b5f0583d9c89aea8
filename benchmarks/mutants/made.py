"""Mutants: the source of a module with one small fault, made by cosmic-ray."""

import ast
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import sha256
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

PACKAGE = Path(__file__).parents[2] / "evoken"

Place = tuple[int, int]  # line, column
# Operators are exchanged for their like: floats that are shifted by others are an error, which any
# test would see.
LIKE = ({"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}, {"BitOr", "BitAnd", "BitXor"})


@dataclass(frozen=True)
class Mutant:
    """A module with one fault.

    Attributes:
        module: its file below ``evoken/``.
        operator, occurrence: cosmic-ray's, which make the fault.
        line: of the fault.
        before, after: the lines that differ.
        source: of the whole mutant.
    """

    module: str
    operator: str
    occurrence: int
    line: int
    before: str
    after: str
    source: str


def mutants_of(module: str, count: int, seed: int) -> list[Mutant]:
    """At most so many mutants, drawn by the seed: no two at one place.

    All that cosmic-ray changes counts, but for type annotations, which are mypy's part, and for
    what is raised, which is the text of messages.
    """
    source = (PACKAGE / module).read_text(encoding="utf-8")
    rng = random.Random(f"{seed} {module}")
    places = _places(source)
    chosen: list[Mutant] = []
    for place in rng.sample(sorted(places), len(places)):
        if len(chosen) == count:
            break
        operator, occurrence = rng.choice(places[place])
        mutated = mutate_code(source, get_operator(operator)(), occurrence)
        if mutated is not None and _differs(source, mutated):
            before, after = _changed(source, mutated)
            name = operator.rpartition("/")[2]
            chosen.append(Mutant(module, name, occurrence, place[0], before, after, mutated))
    return sorted(chosen, key=lambda m: m.line)


def version_of(module: str) -> str:
    """Of a module's source: results hold for it alone."""
    return sha256((PACKAGE / module).read_bytes()).hexdigest()[:12]


def _places(source: str) -> dict[Place, list[tuple[str, int]]]:
    """By place, the operators that change something there, with the number of the occurrence."""
    nodes, left_out = list(ast_nodes(get_ast(source))), list(_left_out(ast.parse(source)))
    found = defaultdict(list)
    for name in operator_names():
        if get_operator(name).arguments() or not _alike(name):
            continue  # with arguments are those that exchange variables
        operator = get_operator(name)()
        positions = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, place in enumerate(positions):
            if not any(start <= place < end for start, end in left_out):
                found[place].append((name, occurrence))
    return found


def _alike(operator: str) -> bool:
    _, binary, exchange = operator.partition("ReplaceBinaryOperator_")
    return not binary or any(set(exchange.split("_")) <= kind for kind in LIKE)


def _left_out(tree: ast.Module) -> Iterator[tuple[Place, Place]]:
    for node in ast.walk(tree):
        found: list[ast.AST | None] = []
        if isinstance(node, ast.Raise):
            found = [node]
        elif isinstance(node, ast.FunctionDef):
            found = [node.returns]
        elif isinstance(node, ast.arg | ast.AnnAssign):
            found = [node.annotation]
        for each in found:
            if isinstance(each, ast.stmt | ast.expr):
                end = (each.end_lineno or each.lineno, each.end_col_offset or 0)
                yield (each.lineno, each.col_offset), end


def _differs(source: str, mutated: str) -> bool:
    """Whether it is another program, and one at all."""
    try:
        return ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def _changed(source: str, mutated: str) -> tuple[str, str]:
    """The lines that differ, before and after."""
    old, new = source.splitlines(), mutated.splitlines()
    changes = [c for c in SequenceMatcher(None, old, new, False).get_opcodes() if c[0] != "equal"]
    before = [line for _, first, last, _, _ in changes for line in old[first:last]]
    after = [line for _, _, _, first, last in changes for line in new[first:last]]
    return _one_line(before), _one_line(after)


def _one_line(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())
