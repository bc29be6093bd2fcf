"""Serving a site with uvicorn, and its files."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any

from magictailor.common.errors import InputError, RunError

ASSETS = files("magictailor.web")


def theme() -> str:
    """The style sheet that all pages share."""
    return ASSETS.joinpath("theme.css").read_text("utf-8")


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at the address; port 0 is any free one.

    Raises:
        InputError: the port is taken or reserved, or the address is not one of this computer's.
    """
    if not 0 <= port < 2**16:
        raise InputError(f"{port}: not a port", "choose one in 1024 .. 65535, or 0 for any", field="port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"{host}: not an address of this computer", "try 127.0.0.1 or 0.0.0.0", field="host"
        ) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
        return bound
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"{port}: taken by another program", "choose another, or 0 for any", field="port"
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(
                f"{host}: not an address of this computer", "try 127.0.0.1 or 0.0.0.0", field="host"
            ) from error
        raise InputError(f"{port}: cannot be used ({error.strerror})", "choose one above 1023", field="port") from error


def address_of(bound: socket.socket, host: str) -> str:
    """What a browser opens for a socket that is bound to this host."""
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}/"


def serve(app: Any, bound: socket.socket, host: str, *, ready: Callable[[str], None] = print) -> None:
    """Serve an ASGI application until Ctrl-C or SIGTERM.

    Args:
        bound: see `bound_socket`; its caller closes it. host: as it was given there.
        ready: is called with the site's address when connections are accepted.

    Raises:
        RunError: the application could not start.
    """
    import uvicorn

    ready(address_of(bound, host))
    # no access log: addresses of a study hold raters' tokens
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, date_header=False)
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[bound])
    if not server.started:
        raise RunError("the site could not start; see above")
