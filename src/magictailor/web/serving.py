"""Serving a site with uvicorn, and its files."""

import errno
import socket
from collections.abc import Callable
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
        raise InputError(f"{port}: no port", "choose one in 1024 .. 65535, or 0 for any", field="port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host}: no address ({error})", "try 127.0.0.1", field="host") from error
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
        raise InputError(f"{port}: cannot be used ({error})", "choose one above 1023", field="port") from error


def serve(
    app: Any, host: str = "127.0.0.1", port: int = 8000, *, extra: str = "study", ready: Callable[[str], None] = print
) -> None:
    """Serve an ASGI application until Ctrl-C or SIGTERM.

    Args:
        extra: the extra of the package that holds uvicorn, for the error.
        ready: is called with the site's address when connections are accepted.

    Raises:
        InputError: uvicorn is missing, or the address cannot be used.
        RunError: the application could not start.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise InputError("serving needs uvicorn", f"run `pip install 'magictailor[{extra}]'`") from error
    bound = bound_socket(host, port)
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{bound.getsockname()[1]}/")
    # no access log: addresses of a study hold raters' tokens
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, date_header=False)
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[bound])
    except KeyboardInterrupt:
        pass
    finally:
        bound.close()
    if not server.started:
        raise RunError("the site could not start; see above")
