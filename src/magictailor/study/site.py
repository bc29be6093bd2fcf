"""The study's site: FastAPI, one page, two requests that change something."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from magictailor.common.errors import InputError
from magictailor.study.arrangement import choices
from magictailor.study.database import SQLAlchemyError
from magictailor.study.design import PICTURES, Study
from magictailor.study.page import ASSETS, answer_data, asset, render_page
from magictailor.study.raters import TOKEN, code_of, invitations, new_token, rater_of
from magictailor.study.store import Answer, Store
from magictailor.study.writer import Result, Work, Writer
from magictailor.web.protection import LOCAL_HOSTS, Protection, same_token

try:
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise InputError("the site needs FastAPI", "run `pip install 'magictailor[study]'`") from error

COOKIE, COOKIE_SECONDS = "rater", 90 * 24 * 3600
MAX_BODY = 4096
NO_STORE = {"cache-control": "no-store"}
CACHED = {"cache-control": "private, max-age=3600"}


class Body(BaseModel):
    """Of a request: strict types, nothing unknown."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class StartBody(Body):
    """``token``: of an invitation; empty without one."""

    consent: bool
    token: str = Field("", max_length=22)


class AnswerBody(Body):
    """``revision``: one more than that of the answer it replaces."""

    group: str = Field(max_length=40)
    question: str = Field(max_length=40)
    choice: str = Field(max_length=40)
    revision: int = Field(ge=1, le=100_000)
    seconds: float = Field(ge=0, le=86_400)


class Refused(Exception):
    """Becomes an answer with this status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


def _refuse(error: Refused) -> JSONResponse:
    return JSONResponse({"error": error.line}, error.status, headers=NO_STORE)


class Site:
    """What the requests of one study share."""

    def __init__(self, study: Study, folder: Path, store: Store, secret: bytes) -> None:
        self.study, self.folder, self.store, self.secret = study, folder, store, secret
        self.invited = invitations(study, secret)
        self.files = study.files
        self.questions = {question.name for question in study.questions}
        self.writer: Writer | None = None

    def page(self, token: str = "", rater: str = "") -> HTMLResponse:
        """The page of a rater, or the welcome of somebody who has not started."""
        session: dict[str, Any] = {"mode": "server", "token": token}
        if rater:
            code = code_of(rater, self.secret) if self.study.entry.mode == "crowd" else ""
            session |= {"rater": rater, "answers": answer_data(self.store.answers(rater)), "code": code}
        html = render_page(self.study, static="/static/", pictures="/pictures/", session=session)
        return HTMLResponse(html, headers=NO_STORE)

    def is_invited(self, token: str) -> bool:
        """Compares with all invitations, whichever fits."""
        return sum(same_token(token, invitation) for invitation in self.invited) > 0

    async def _write(self, work: Work[Result]) -> Result:
        assert self.writer is not None
        try:
            return await self.writer.write(work)
        except SQLAlchemyError as error:
            raise Refused(503, "The answer could not be stored now. It will be tried again.") from error

    async def start(self, body: StartBody) -> str:
        """The token of a rater who may answer now."""
        if not body.consent:
            raise Refused(400, "The study cannot start without your consent.")
        if self.study.entry.mode == "invited":
            if not self.is_invited(body.token):
                raise Refused(403, "This study is open to invited people only. Please use the link that you were sent.")
            token = body.token
        else:
            token = new_token()
        rater, limit = rater_of(token), self.study.entry.max_raters
        if not await self._write(lambda connection: self.store.add_rater(connection, rater, limit)):
            raise Refused(403, "The study has all the people it needs. Thank you for coming.")
        return token

    async def answer(self, token: str, body: AnswerBody) -> int:
        """Store an answer; its revision, after it is on disk."""
        group = self.study.by_name.get(body.group) if TOKEN.fullmatch(token) else None
        rater = rater_of(token)
        if group is None or body.question not in self.questions or body.choice not in choices(self.study, rater, group):
            raise Refused(400, "This study has no such answer. Please reload the page.")
        new = Answer(rater, body.group, body.question, body.choice, body.revision, body.seconds)
        stored = await self._write(lambda connection: self.store.record(connection, new))
        if stored is None:
            raise Refused(410, "This link is not valid, or its answers were removed.")
        if not stored.accepted:
            raise Conflict(stored.revision)
        return stored.revision


class Conflict(Exception):
    """Another answer has been stored since the one that this one replaces."""

    def __init__(self, revision: int) -> None:
        super().__init__(revision)
        self.revision = revision


def make_app(
    study: Study, folder: Path, store: Store, secret: bytes, hosts: frozenset[str] | None = LOCAL_HOSTS
) -> Any:
    """The ASGI application of a study; ``hosts`` as in `Protection`. Raises InputError: the database cannot be made."""
    store.create()
    site = Site(study, folder, store, secret)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        site.writer = Writer(store)
        yield
        site.writer.close()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    _add_pages(app, site)
    _add_changes(app, site)
    _add_errors(app)
    return Protection(app, hosts=hosts, max_body=MAX_BODY)


def _add_pages(app: FastAPI, site: Site) -> None:
    texts = {name: asset(name) for name in ASSETS}

    @app.get("/")
    def home(request: Request, new: bool = False) -> Response:
        token = request.cookies.get(COOKIE, "")
        if not new and TOKEN.fullmatch(token) and site.store.has_rater(rater_of(token)):
            return RedirectResponse(f"/r/{token}", 303, headers=NO_STORE)
        return site.page()

    @app.get("/r/{token}")
    def rater_page(token: str) -> Response:
        if TOKEN.fullmatch(token):
            rater = rater_of(token)
            if site.store.has_rater(rater):
                return _with_cookie(site.page(token, rater), token)
            if site.is_invited(token):
                return site.page(token)
        raise Refused(404, "This link is not valid, or its answers were removed.")

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in ASSETS:
            raise Refused(404, "There is no such file.")
        return Response(texts[name], media_type=ASSETS[name], headers=CACHED)

    @app.get("/pictures/{file}")
    async def picture(file: str) -> Response:
        if file not in site.files:
            raise Refused(404, "There is no such picture.")
        return FileResponse(site.folder / PICTURES / file, headers=CACHED)


def _add_changes(app: FastAPI, site: Site) -> None:
    @app.post("/start")
    async def start(body: StartBody) -> Response:
        token = await site.start(body)
        return _with_cookie(JSONResponse({"link": f"/r/{token}"}, headers=NO_STORE), token)

    @app.post("/r/{token}/answers")
    async def answer(token: str, body: AnswerBody) -> Response:
        try:
            return JSONResponse({"revision": await site.answer(token, body)}, headers=NO_STORE)
        except Conflict as conflict:
            error = "Another answer was given in the meantime."
            return JSONResponse({"error": error, "revision": conflict.revision}, 409, headers=NO_STORE)


def _with_cookie(response: Response, token: str) -> Response:
    response.set_cookie(COOKIE, token, max_age=COOKIE_SECONDS, httponly=True, samesite="lax")
    return response


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        if request.method == "GET":
            return HTMLResponse(_plain_page(error.line), error.status, headers=NO_STORE)
        return _refuse(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, _error: RequestValidationError) -> Response:
        return _refuse(Refused(400, "This study has no such answer. Please reload the page."))


def _plain_page(line: str) -> str:
    """A page for a line without anything that came with the request."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>The study</title><link rel="stylesheet" href="/static/theme.css"><main><p class="notice warn">{line}</p>'
        '<p><a class="button" href="/">To the study</a></p></main></html>'
    )
