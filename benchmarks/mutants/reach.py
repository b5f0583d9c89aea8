"""Which tests reach the place of a fault."""

import ast
from collections.abc import Iterator, Mapping, Sequence

Lines = tuple[int, int]  # first and last
ALL: Lines = (1, 10**9)


def reach(source: str, line: int, executed: Mapping[str, Sequence[int]]) -> set[str]:
    """The tests that a fault in this line of a module may concern: all that execute a line of the
    same statement; of a function's header, any line of the function; of what is in no function, any
    line of the module.

    Args:
        executed: lines of the module's functions by test.
    """
    first, last = _lines(ast.parse(source), line)
    return {test for test, its in executed.items() if any(first <= n <= last for n in its)}


def _lines(tree: ast.Module, line: int) -> Lines:
    found = ALL
    for node, inside in _statements(tree, inside=False):
        start, end = _header(node)
        if start <= line <= end:
            if isinstance(node, ast.FunctionDef):
                found = (start, node.end_lineno or end)
            else:
                found = (start, end) if inside else ALL
    return found


def _statements(node: ast.AST, inside: bool) -> Iterator[tuple[ast.stmt | ast.ExceptHandler, bool]]:
    """The statements below a node, outer ones first, and whether they are in a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield child, inside
        yield from _statements(child, inside or isinstance(child, ast.FunctionDef))


def _header(node: ast.stmt | ast.ExceptHandler) -> Lines:
    """The lines of a statement, without those of the statements in it."""
    start = min(each.lineno for each in (node, *getattr(node, "decorator_list", ())))
    body = getattr(node, "body", None)
    return start, max(start, body[0].lineno - 1) if body else (node.end_lineno or start)
