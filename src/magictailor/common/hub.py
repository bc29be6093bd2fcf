"""The model hub: whether it can be asked at all."""

import os
import socket
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies

SECONDS = 5.0  # that its host may take to answer


@cache
def hub_answers() -> bool:
    """Whether the hub's host can be reached, asked once a process: without a network the hub's library tries for a minute.

    Behind a proxy the host is not asked, and the answer is yes.
    """
    if getproxies():
        return True
    address = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
