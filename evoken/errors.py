"""Types of errors. Every error says what the problem is and what to do about it.

The library raises these; only the command line turns them into text and exit codes. In a message,
the names of settings and arguments are in backticks, so that the command line can replace them with
its own options; backticks are used for nothing else.
"""

from pathlib import PurePath
from unicodedata import category


class EvokenError(Exception):
    """A problem and its remedy; ``str(error)`` is both.

    Attributes:
        problem: what is wrong, what is allowed and what was given: a sentence with a full stop.
        fix: what to do, as a sentence in the imperative; "" if that is obvious from the problem.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)
        self.problem, self.fix = problem, fix

    def __str__(self) -> str:
        return f"{self.problem} {self.fix}".rstrip()


class ImageError(EvokenError):
    """Images that cannot be read or used."""


class WordError(EvokenError):
    """A placeholder, a learned word or an initial word that cannot be used."""


class ModelError(EvokenError):
    """A model that cannot be found, loaded or used for this."""


class RunError(EvokenError):
    """A run folder that cannot be read, continued or written."""


class SettingError(EvokenError):
    """A setting out of its range, or settings that do not go together."""


class SearchError(EvokenError):
    """A search that cannot go on, because every candidate failed."""


class WorkerError(EvokenError):
    """Workers that cannot be started, or that died or failed repeatedly."""


class PromptWarning(UserWarning):
    """A prompt that is drawn, and perhaps not as it was meant."""


PATH = 140  # letters at both ends of a path that is too long to be shown


def shown(value: object, most: int = 60) -> str:
    """A value of a user's or of a file's, for a message: its ``repr`` on one line, of at most
    ``most`` characters. A path is shown as it is typed, and whole unless it is very long: cut,
    nobody could find it.
    """
    if isinstance(value, PurePath):
        text = _printable(str(value))
        return text if len(text) <= 2 * PATH else f"{text[:PATH]}...{text[-PATH:]}"
    text = _printable(repr(value))
    return text if len(text) <= most else f"{text[: most - 4]}...{text[-1]}"


def one_line(text: str, most: int = 200) -> str:
    """The first line of a foreign text, for the end of a sentence."""
    return _printable((text.strip().splitlines() or [""])[0])[:most].rstrip(" .:")


def reason_of(error: BaseException) -> str:
    """Why something failed elsewhere, for the end of a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror[0].lower() + error.strerror[1:])
    return one_line(str(error)) or type(error).__name__


def plain(text: str, keep: str = "") -> str:
    """Text of anybody's for a terminal or a page: in place of what moves a cursor, turns the
    direction of writing, ends a line or is no letter at all there is a question mark.

    Args:
        keep: characters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else " " if category(c) == "Zs" else "?" for c in text
    )


def _printable(text: str) -> str:
    """Without control characters, and without backticks, which have a meaning in messages."""
    return plain(text.replace("`", "'"))
