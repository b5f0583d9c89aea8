"""No notices of the libraries beneath: they are for their own developers.

A program that imports evoken keeps its own settings of warnings and logging: the libraries are
silent only while evoken loads something. The command line is a program of our own, and silent
throughout.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# Read by the libraries when they are imported, and inherited by workers.
ENVIRONMENT = {
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
    "TRANSFORMERS_VERBOSITY": "error",
}


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, libraries neither warn nor log below an error."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """As ``quiet``; and diffusers and transformers show no progress bars."""
    with quiet():
        shown = [library for library in _loggings() if library.is_progress_bar_enabled()]
        for library in shown:
            library.disable_progress_bar()
        try:
            yield
        finally:
            for library in shown:
                library.enable_progress_bar()


def quiet_process() -> None:
    """For a program of our own, and the workers that it starts: what goes wrong it says itself.
    Somebody who asks Python for warnings gets them all.
    """
    if sys.warnoptions:
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    logging.disable()


def _loggings() -> tuple[ModuleType, ...]:
    import diffusers.utils.logging
    import transformers.utils.logging

    return diffusers.utils.logging, transformers.utils.logging
