"""The libraries' own log messages."""


def quiet_loading() -> None:
    """Silence the libraries' progress bars and messages on loading weights, which would break our own bars."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
