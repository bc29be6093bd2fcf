"""The application: routes, errors as JSON, and the page's own files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from magictailor import __version__
from magictailor.common.errors import InputError, RunError
from magictailor.studio.server import access, gallery, jobs, pairs
from magictailor.studio.studio import Studio
from magictailor.studio.uploads import MAX_BYTES
from magictailor.studio.workspace import NotThere
from magictailor.web.protection import LOCAL_HOSTS, App, Protection
from magictailor.web.serving import theme

PAGE = files("magictailor.studio") / "page"


def make_app(
    studio: Studio,
    *,
    token: str | None,
    hosts: frozenset[str] | None = LOCAL_HOSTS,
    idle: float = access.IDLE,
    open_with: str = "",
) -> App:
    """The studio's site as an ASGI application, with all its guards.

    Args:
        token: see `access.Access`.
        hosts: names that the site is reached by; None: any.
        open_with: the pair that the page opens with.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio.live.start()
        reading = asyncio.create_task(asyncio.to_thread(studio.gallery.find))  # before a page asks
        yield
        await reading
        studio.live.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.studio = studio
    _add_errors(app)
    for part in (pairs, jobs, gallery):
        app.include_router(part.router)

    @app.get("/api/state")
    def state() -> dict[str, Any]:
        return {
            "version": __version__,
            "root": studio.workspace.root.name,
            "open_with": open_with,
            **jobs.choices(studio),
        }

    @app.get("/api/events")
    async def events() -> StreamingResponse:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(studio.live.stream(), media_type="text/event-stream", headers=headers)

    with as_file(PAGE) as folder:
        _add_page(app, folder)
    guarded = access.Access(app, token=token, idle=idle)
    return Protection(guarded, hosts=hosts, max_body=MAX_BYTES + 1024)


def _add_page(app: FastAPI, folder: Path) -> None:
    fresh = {"Cache-Control": "no-cache"}

    @app.get("/")
    def index() -> FileResponse:
        return FileResponse(folder / "index.html", headers=fresh)

    @app.get("/static/theme.css")
    def shared_theme() -> Response:
        return Response(theme(), media_type="text/css", headers=fresh)

    app.mount("/static", StaticFiles(directory=folder), name="static")


def _add_errors(app: FastAPI) -> None:
    def refuse(status: int, problem: str, fix: str = "", field: str = "") -> JSONResponse:
        return JSONResponse({"problem": problem, "fix": fix, "field": field}, status)

    @app.exception_handler(InputError)
    def bad_input(request: Request, error: InputError) -> JSONResponse:
        return refuse(404 if isinstance(error, NotThere) else 422, error.problem, error.fix, error.field)

    @app.exception_handler(RunError)
    def full_disk(request: Request, error: RunError) -> JSONResponse:
        return refuse(507, str(error))

    @app.exception_handler(OSError)
    def broken_disk(request: Request, error: OSError) -> JSONResponse:
        return refuse(
            507,
            f"the disk refused ({error.strerror or 'it is full, or not writable'})",
            "free some space, then try again",
        )

    @app.exception_handler(RequestValidationError)
    def bad_form(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        return refuse(422, f"{place}: {first['msg']}"[:300], "", place[:80])

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> JSONResponse:
        return refuse(error.status_code, str(error.detail))
