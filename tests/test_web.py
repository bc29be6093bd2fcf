"""What the sites share: who is let in, what every answer carries, and where a site listens."""

import asyncio
import re
import socket
from typing import Any

import pytest

from magictailor.common.errors import InputError
from magictailor.web.protection import HEADERS, Protection, same_token
from magictailor.web.serving import bound_socket, theme


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the number of bytes that came; like web frameworks, it makes a 400 of errors in the body."""
    size, more = 0, True
    try:
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        status, body = 200, str(size).encode()
    except Exception:
        status, body = 400, b"bad body"
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-frame-options", b"ALLOW")]})
    await send({"type": "http.response.body", "body": body})


def request(
    method: str = "POST", headers: dict[str, str] | None = None, chunks: tuple[bytes, ...] = (b"",), **options: Any
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of one request to `echo` behind `Protection`."""
    given = {"host": "localhost:8000", **(headers or {})}
    sent: list[Any] = []
    left = [{"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)} for i, chunk in enumerate(chunks)]

    async def receive() -> Any:
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "headers": [(k.encode(), v.encode()) for k, v in given.items()]}
    asyncio.run(Protection(echo, **options)(scope, receive, send))
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1
    return starts[0]["status"], dict(starts[0]["headers"]), b"".join(m.get("body", b"") for m in sent)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000"])
def test_this_computers_names_are_served(host: str) -> None:
    assert request(headers={"host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "evil.example@x:1", "[", "127.0.0.1.nip.io"]
)
def test_other_names_are_refused_whatever_the_method(host: str) -> None:
    assert {request(method, {"host": host})[0] for method in ("GET", "POST")} == {421}


def test_a_public_site_names_its_hosts_or_takes_any() -> None:
    assert request(headers={"host": "study.example"}, hosts=frozenset({"study.example"}))[0] == 200
    assert request(headers={"host": "study.example"}, hosts=None)[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program, not a browser
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "https://LOCALHOST:8000"}, 200),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://localhost:9000"}, 403),
        ({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_only_our_own_pages_change_anything(headers: dict[str, str], status: int) -> None:
    assert request(headers=headers)[0] == status
    assert request("GET", headers)[0] == 200


@pytest.mark.parametrize("length", ["101", "-1", "1e3", "²", "9" * 40])
def test_a_length_over_the_limit_is_refused_before_the_body_is_read(length: str) -> None:
    assert request(headers={"content-length": length}, max_body=100)[0] == 413


def test_a_body_without_a_length_is_counted() -> None:
    assert request(chunks=(b"x" * 60, b"x" * 40), max_body=100)[::2] == (200, b"100")
    status, headers, body = request(chunks=(b"x" * 60, b"x" * 41), max_body=100)
    assert (status, b"100 bytes" in body, b"bad body" in body) == (413, True, False)
    assert set(HEADERS) <= set(headers.items())


def test_every_answer_carries_the_headers_once() -> None:
    for answer in (request("GET"), request("GET", {"host": "evil.example"})):
        assert set(HEADERS) <= set(answer[1].items())
    policy = dict(HEADERS)[b"content-security-policy"].decode()
    assert "unsafe" not in policy
    assert "//" not in policy  # no other site
    assert "frame-ancestors 'none'" in policy


def test_tokens_compare() -> None:
    assert same_token("abc", "abc")
    assert not same_token("abc", "abd")
    assert not same_token("é", "e")
    assert not same_token("\ud800", "")


def test_a_taken_port_is_named() -> None:
    with bound_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port}: taken by another program; choose another"):
            bound_socket("127.0.0.1", port)
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no.such.host.invalid", 0), ("127.0.0.1", 70000)])
def test_addresses_that_are_none_are_named(host: str, port: int) -> None:
    with pytest.raises(InputError) as caught:
        bound_socket(host, port)
    assert caught.value.fix


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_controls_have_enough_contrast(scheme: int) -> None:
    """By WCAG 2.2: 4.5 : 1 for text, 3 : 1 for the edges of controls."""
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", theme())
    color = {name: values[scheme] for name, *values in pairs}
    for ground in ("paper", "panel", "sunken", "tint"):
        for ink in ("ink", "soft", "accent", "bad"):
            assert contrast(color[ink], color[ground]) >= 4.5, (ink, ground)
        assert contrast(color["strong-line"], color[ground]) >= 3, ground
    assert contrast(color["on-accent"], color["accent"]) >= 4.5
    for tone in ("good", "warn", "bad"):
        assert contrast(color[tone], color[f"{tone}-tint"]) >= 4.5, tone


def test_the_theme_asks_nobody_for_anything() -> None:
    assert not re.search(r"url\(|@import|https?:", theme())
