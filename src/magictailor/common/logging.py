"""The libraries' own log messages."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Keep libraries' notes off the user's screen: of this process, and of those that it starts."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # Python's own process that tidies up after killed workers
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def quiet_loading() -> None:
    """Silence the libraries' progress bars and messages on loading weights, which would break our own bars."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
