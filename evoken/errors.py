"""What can go wrong, as types. Every error says what was expected, what came, and what to do.

The library raises these; only the command line turns them into text and exit codes.
"""


class EvokenError(Exception):
    """An error with its remedy; ``str(error)`` is one sentence per part."""

    def __init__(self, expected: str, got: str, fix: str) -> None:
        super().__init__(expected, got, fix)
        self.expected, self.got, self.fix = expected, got, fix

    def __str__(self) -> str:
        return f"expected {self.expected}; got {self.got}. {self.fix}"


class ImageError(EvokenError):
    """Images that cannot be read or used."""


class WordError(EvokenError):
    """A placeholder, a learned word or an initial word that cannot be used."""


class ModelError(EvokenError):
    """A model that cannot be found, loaded or used for what is asked."""


class RunError(EvokenError):
    """A run folder that cannot be read, continued or written."""


class SettingError(EvokenError):
    """A setting out of its range, or settings that do not go together."""


class SearchError(EvokenError):
    """A search that cannot go on, because every candidate failed."""


class WorkerError(EvokenError):
    """Workers that cannot be had, or that died or failed again and again."""
