"""Why a mutant may survive: no test can tell it from its module, or none has to."""

import re
from collections.abc import Mapping
from typing import Any

# By kind, expressions for "MODULE: BEFORE => AFTER".
EXPLAINED: dict[str, tuple[str, ...]] = {
    "says something to readers and to mypy, and nothing runs by it": (
        r"frozen=True.* => .*frozen=False",
        r": @(abstractmethod|property) => $",
        r": if TYPE_CHECKING:",
    ),
    "checks what cannot happen while our own code is right": (
        r"strict=True.* => .*strict=False",
        r"strict=False.* => .*strict=True",
    ),
    "other random numbers of the same kind": (
        r"_generator\(\w+, 0, .* => .*_generator\(\w+, *-?1, ",
        r"mean \+ std \* torch\.randn.* => .*mean - std",
        r"Chunk\(0, \"validation\".* => ",
    ),
    "compares small numbers by identity, which are one object each in Python": (
        r"(==|!=) .* => .*\bis\b",
    ),
    "a size of blocks, a limit of others, or what a library prints: no result depends on it": (
        r": (BLOCK|LONGEST) = ",
        r": length \*= ",
        r"stream\.read\(12\)",
        r"\.stem\[:100\]",
        r"\"verbose\": ",
        r"path\.name\[:40\]",
    ),
    "the first of one, which is also the last": (
        r"struct\.unpack\(",
        r"_compare\(vectors\[i : i \+ 1\], own\)",
    ),
    "what another process may have done in this very moment": (
        r"missing_ok=True|ignore_errors=True",
        r"flowopt/folder\.py: except OSError as error",  # it was read a moment before
    ),
    "a number that only has to differ from all others": (
        r"texts\.index\(c\) if c else",
        r"self\._drawn = \(-1, ",
    ),
    "the default of an argument that evoken always gives": (
        r"objective\.py: (sentences: int = 4|def split\()",
        r": def append_record\(",
    ),
    "the same value by another way": (
        r"LOCK_(EX|SH) \| fcntl\.LOCK_NB",  # different bits
        r"masks is None or others is None or",  # both or neither are, by then
        r"1 - 0\.99\*\*self\._step.* => .*1 % 0\.99",  # for 68 steps
        r"gram\.shape\[1\].* => .*gram\.shape\[ 2\]",  # it is square
        r"len\(missing\) < len\(paths\).* => .*!=",  # they are some of these
        r"\(low \* high\) \*\* 0\.5.* => .*%",  # another way to halve what is left
        r"self\._dz, self\._dr = .* => .*\[x \*\* keep for x",  # their weights are zero
        r"counts = range\(1, .* => .*range\( 0, ",  # no word has no vectors
    ),
}


def why(row: Mapping[str, Any]) -> str:
    """The kind of reason for which a mutant may survive; "" if there is none."""
    said = f"{row['module']}: {row['before']} => {row['after']}"
    for kind, expressions in EXPLAINED.items():
        if any(re.search(expression, said) for expression in expressions):
            return kind
    return ""
