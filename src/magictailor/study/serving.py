"""`study serve`: the site of a study until it is stopped."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.common.files import write_text
from magictailor.study.design import check_pictures, read_study
from magictailor.study.raters import invitations, study_secret
from magictailor.study.site import make_app
from magictailor.study.store import opened
from magictailor.web.protection import LOCAL_HOSTS
from magictailor.web.serving import bound_socket, serve

LINKS_FILE = "links.txt"


def serve_study(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    database: str | None = None,
    names: Sequence[str] = (),
    address: str | None = None,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve a study until Ctrl-C.

    Args:
        host, port: where to listen. 127.0.0.1 is reached only from this computer, and by a proxy on it.
        database: see `Store`.
        names: host names that raters use; any, if it listens to other computers and none is given.
        address: what raters' links begin with, for instance ``https://study.example.org``; where it listens, unless given.
        ready: is called with lines to print.

    Raises:
        InputError: no study, or a picture, a database, a host or a port that cannot be used. Nothing has been written.
    """
    if find_spec("uvicorn") is None:
        raise InputError("serving needs uvicorn", "run `pip install 'magictailor[study]'`")
    study = read_study(folder)
    if address is not None and not address.startswith(("http://", "https://")):
        raise InputError(f"{address}: not an address", "write it like https://study.example.org", field="address")
    check_pictures(study, folder)
    named = frozenset(name.lower() for name in names)
    is_local = host in LOCAL_HOSTS
    hosts = LOCAL_HOSTS | named if is_local or named else None

    # All that may be refused comes first; what is written, last.
    with bound_socket(host, port) as bound, opened(study, folder, database) as store:
        secret = study_secret(folder)

        def announce(own_address: str) -> None:
            base = (address or own_address).rstrip("/")
            if study.entry.mode == "invited":
                write_text(folder / LINKS_FILE, "".join(f"{base}/r/{token}\n" for token in invitations(study, secret)))
                (folder / LINKS_FILE).chmod(0o600)
                ready(f"{study.entry.invitations} links, one for each rater: {folder / LINKS_FILE}")
            ready(f"the study is at {base}/ ; Ctrl-C stops it, and no answer is lost")

        serve(make_app(study, folder, store, secret, hosts), bound, host, ready=announce)
