"""Where results that other runs can use again are kept."""

import os
from pathlib import Path

CACHE = "MAGICTAILOR_CACHE"


def cache_folder() -> Path:
    """$MAGICTAILOR_CACHE, or magictailor's folder in the user's cache."""
    own = os.environ.get(CACHE)
    return (Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "magictailor").expanduser()
