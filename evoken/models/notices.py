"""What the libraries beneath would print."""

import os

from evoken.models.runtimes import quiet as libraries


def quiet() -> None:
    """No progress bars or notices of the libraries on our terminal."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when it is imported
    with libraries.quiet():  # diffusers brings in torchao, which says what it was not built for
        import diffusers.utils.logging
        import transformers.utils.logging

        import evoken.models.load  # noqa: F401

    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
