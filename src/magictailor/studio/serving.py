"""Serving the studio: its address, its token, and its end."""

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType

from magictailor.common.errors import InputError
from magictailor.studio.studio import Studio
from magictailor.studio.workspace import LOCK_FILE, TOKEN_FILE, another_works, is_locked, studio_root
from magictailor.web.protection import LOCAL_HOSTS
from magictailor.web.serving import address_of, bound_socket

FINISH = 30  # seconds that uploads get when the server ends; streams of open pages are ended at once


def studio_token(root: Path) -> str:
    """The studio's token, made once and kept in its folder, readable only by its owner."""
    path = root / TOKEN_FILE
    if path.is_file() and len(kept := path.read_text("utf-8").strip()) >= 20:
        return kept
    token = secrets.token_urlsafe(24)
    path.touch(0o600)
    path.chmod(0o600)
    path.write_text(token, "utf-8")
    return token


def serve_studio(
    root: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    token: bool = True,
    demo: bool = False,
    resume: bool = False,
    models: Path | None = None,
    loras: Path | None = None,
    exports: Mapping[str, Path] | None = None,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve a studio until Ctrl-C or SIGTERM; jobs that run then go on.

    Args:
        token: whether the address holds a token. Without one, only this computer can be served.
        demo: open with a pair of the world.
        resume: queue again what was interrupted.
        ready: is called with the address to open.

    Raises:
        InputError: a folder, host or port that cannot be used; a missing extra; no token on another interface.
            Nothing has been written.
    """
    try:
        import uvicorn

        from magictailor.studio.server.app import make_app
    except ImportError as error:
        raise InputError("the studio needs FastAPI and uvicorn", "run `pip install 'magictailor[studio]'`") from error
    local = host in LOCAL_HOSTS
    if not token and not local:
        raise InputError(f"{host}: other computers reach it", "leave the token on, or serve 127.0.0.1", field="host")
    if is_locked(studio_root(root) / LOCK_FILE):  # before the port, which it has as well
        raise another_works(root)
    with bound_socket(host, port) as bound:
        studio = Studio(root, models=models, loras=loras, exports=exports)
        with studio.workspace.locked():
            secret = studio_token(studio.workspace.root) if token else None
            opened = studio.demo_pair() if demo else ""
            if resume:
                studio.runner.resume_interrupted()
            # On another interface any name may lead here; the token guards it.
            app = make_app(studio, token=secret, hosts=LOCAL_HOSTS if local else None, open_with=opened)
            ready(address_of(bound, host) + (f"?token={secret}" if secret else ""))
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=FINISH
            )

            class Server(uvicorn.Server):
                def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                    studio.live.close()  # open pages would keep it waiting
                    super().handle_exit(sig, frame)

            with studio, suppress(KeyboardInterrupt):
                Server(config).run(sockets=[bound])
