"""What guards every site: security headers, checks of Host and Origin, a limit on bodies, comparison of tokens.

`Protection` is a plain ASGI middleware, so it needs no web framework.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


def same_token(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


class _TooLarge(Exception):
    """A body over the limit, while the application reads it."""


class Protection:
    """Middleware around a site's application.

    A request is refused if its Host is not one of ours (DNS rebinding), if it changes something and comes from another
    site (forged requests), or if its body is too large. Every answer gets the security headers.

    Args:
        app: the application.
        hosts: names or addresses, without port, that the site is reached by; None: any. `LOCAL_HOSTS` for a site of
            this computer only.
        max_body: bytes.
    """

    def __init__(self, app: App, *, hosts: frozenset[str] | None = LOCAL_HOSTS, max_body: int = 64 * 1024) -> None:
        self.app, self.hosts, self.max_body = app, hosts, max_body

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            await (send({"type": "websocket.close", "code": 1008}) if refusal else self.app(scope, receive, send))
            return
        if refusal:
            await _answer(send, *refusal)
            return
        await self._handle(scope, receive, send)

    def _refusal(self, scope: MutableMapping[str, Any], headers: MutableMapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            return 421, "This site is not served under that name."
        if (scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS) and not _same_origin(headers, host):
            return 403, "This request comes from another site."
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > self.max_body:
            return 413, f"The request is larger than {self.max_body} bytes."
        return None

    async def _handle(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        received, begun, replaced = 0, False, False

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body:  # a body without a length
                raise _TooLarge
            return message

        async def protected(message: Message) -> None:
            nonlocal begun, replaced
            if received > self.max_body and not begun:  # frameworks make an answer of their own of the error
                begun = replaced = True
                await self._refuse_size(send)
            if replaced:
                return
            if message["type"] == "http.response.start":
                begun = True
                ours = {name for name, _ in HEADERS}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in ours]
                message = {**message, "headers": [*kept, *HEADERS]}
            await send(message)

        try:
            await self.app(scope, limited, protected)
        except _TooLarge:
            if not begun:
                await self._refuse_size(send)

    async def _refuse_size(self, send: Send) -> None:
        await _answer(send, 413, f"The request is larger than {self.max_body} bytes.")


def _name(host: str) -> str:
    """The Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same_origin(headers: MutableMapping[str, str], host: str) -> bool:
    """Whether a browser sent this from one of our own pages; programs that send neither header pass.

    The scheme is not compared: behind a proxy, the site does not see that it is https.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin != "null":
        return urlsplit(origin).netloc.lower() == host.lower()
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
