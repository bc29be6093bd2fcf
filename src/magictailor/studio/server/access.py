"""Who may do what: the token, forged requests, sizes, rates, and bodies that never end.

It stands inside `magictailor.web.protection.Protection`, which has checked Host, Origin and the size of a body.
"""

import asyncio
import json
import time
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from magictailor.web.protection import SAFE_METHODS, App, Message, Receive, Send, same_token

COOKIE, HEADER = "studio", b"x-studio"
JSON_BYTES = 256 * 1024
IDLE = 15.0  # seconds without a byte of a body
OPEN = ("/static/",)  # the page's own files, which hold no secret


class Bucket:
    """A limit of rate: at most ``burst`` at once, and ``rate`` a second in the long run."""

    def __init__(self, burst: float, rate: float) -> None:
        self.burst, self.rate = burst, rate
        self._level, self._at = burst, time.monotonic()

    def take(self) -> bool:
        """Whether one more may pass."""
        now = time.monotonic()
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Access:
    """Middleware around the studio's application.

    Args:
        token: must be in the address once, then a cookie holds it; or comes as ``Authorization: Bearer``. None: everyone
            who reaches the server may use it.
        idle: seconds that a body may pause.
    """

    def __init__(self, app: App, *, token: str | None, idle: float = IDLE) -> None:
        self.app, self.token, self.idle = app, token, idle
        self._wrong, self._changes = Bucket(30, 2), Bucket(400, 60)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:  # there is no websocket here
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self.token is not None and scope["path"] == "/" and (given := _in_address(scope)) is not None:
            await self._enter(given, send)
            return
        refused = self._refusal(scope, headers)
        if refused:
            await answer(send, *refused)
            return
        await self.app(scope, self._patient(receive, scope["method"]), send)

    async def _enter(self, given: str, send: Send) -> None:
        """The token goes from the address, where it could be seen, to a cookie that scripts and other sites do not get."""
        if not same_token(given, self.token or ""):
            status, text = (
                (401, "The token in the address is wrong.") if self._wrong.take() else (429, "Too many tries.")
            )
            await answer(send, status, text, "open the address that `magictailor studio` printed")
            return
        cookie = f"{COOKIE}={given}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _refusal(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        path, method = scope["path"], scope["method"]
        if not path.startswith(OPEN) and not self._is_known(headers):
            if not self._wrong.take():
                return 429, "Too many requests without the token.", "wait a minute"
            return 401, "This studio needs its token.", "open the address that `magictailor studio` printed"
        if method in SAFE_METHODS:
            return None
        if headers.get(HEADER) != b"1":  # another site's form cannot send it
            return 403, "This request does not come from the studio's page.", "reload the page"
        if not self._changes.take():
            return 429, "Too many changes at once.", "wait a few seconds"
        length = headers.get(b"content-length")
        if headers.get(b"content-type", b"").startswith(b"application/json"):
            if length is None:
                return 411, "A request without a length.", "reload the page"
            if int(length) > JSON_BYTES:
                return 413, f"The request has more than {JSON_BYTES} bytes.", "send less at once"
        return None

    def _is_known(self, headers: dict[bytes, bytes]) -> bool:
        if self.token is None:
            return True
        bearer = headers.get(b"authorization", b"").decode("latin-1")
        if bearer.startswith("Bearer "):
            return same_token(bearer.removeprefix("Bearer "), self.token)
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        return COOKIE in cookies and same_token(cookies[COOKIE].value, self.token)

    def _patient(self, receive: Receive, method: str) -> Receive:
        """Waits for each part of a body, and not for ever: a half-open upload would keep a thread."""
        if method in SAFE_METHODS:
            return receive
        ended = False

        async def limited() -> Message:
            nonlocal ended
            if ended:  # whoever waits for the client to leave
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.idle)
            except TimeoutError:
                ended = True
                return {"type": "http.disconnect"}
            ended = not message.get("more_body", False)
            return message

        return limited


def _in_address(scope: MutableMapping[str, Any]) -> str | None:
    """The token in the query, if there is one."""
    found = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20).get("token")
    return found[0] if found else None


async def answer(send: Send, status: int, problem: str, fix: str = "") -> None:
    body = json.dumps({"problem": problem, "fix": fix, "field": ""}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
