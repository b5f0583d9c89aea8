"""No notices of the libraries beneath: they are for their own developers."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


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


def quiet_libraries() -> None:
    """Import diffusers and transformers without their notices, and keep them from printing."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when it is imported
    with quiet():  # diffusers brings in torchao, which says what it was not built for
        import diffusers.models
        import diffusers.utils.logging
        import transformers.utils.logging
        from diffusers import DiffusionPipeline  # noqa: F401

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
