"""What libraries log."""


def quiet_loading() -> None:
    """Keep the libraries' own bars and remarks on loading weights off the screen: they would break ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
