"""What the libraries beneath would print."""

import os


def quiet() -> None:
    """No progress bars or notices of the libraries on our terminal."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when it is imported
    import diffusers.utils.logging
    import transformers.utils.logging

    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
