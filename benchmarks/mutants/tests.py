"""Which tests have to see the faults of a module."""

# Files below evoken/, and the tests/test_*.py that are about them.
TESTS: dict[str, tuple[str, ...]] = {
    "search/base.py": ("search",),
    "search/cma.py": ("search",),
    "search/gauss_newton.py": ("search",),
    "search/random_search.py": ("search",),
    "search/table.py": ("search",),
    "search/zero_order.py": ("search",),
    "textual_inversion/draws.py": ("objective", "annotations"),
    "textual_inversion/objective.py": ("objective", "annotations"),
    "textual_inversion/subspace.py": ("subspace",),
    "textual_inversion/initialization.py": ("initialization", "warm_start"),
    "textual_inversion/folder.py": ("integrity", "runs", "folders", "annotations", "going_on"),
    "flowopt/rules.py": ("flowopt",),
    "flowopt/secants.py": ("flowopt",),
    "flowopt/optimize.py": ("flowopt",),
    "flowopt/folder.py": ("flow_folders", "integrity", "flow_cli"),
    "words/files.py": ("formats", "foreign_files", "convert"),
    "words/header.py": ("formats", "convert"),
    "words/layouts.py": ("formats", "foreign_files", "subsets"),
    "words/torch_file.py": ("formats", "foreign_files"),
    "words/merge.py": ("merge",),
    "words/convert.py": ("convert", "other_tools", "subsets"),
    "run_folder.py": ("runs", "integrity", "flow_folders", "refusals", "annotations"),
    "records.py": ("integrity",),
    "files.py": ("files", "door"),
}
