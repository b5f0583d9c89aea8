"""No notices of the libraries beneath: they are for their own developers."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


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
