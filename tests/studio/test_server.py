"""The server: routes work, and nothing hostile passes."""

import asyncio
import io
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from magictailor.common.errors import InputError
from magictailor.studio.adoption import adopt_from_world
from magictailor.studio.server.access import Access, Bucket
from magictailor.studio.server.app import make_app
from magictailor.studio.serving import serve_studio, studio_token
from magictailor.studio.studio import Studio
from magictailor.web.protection import POLICY
from studio_attacks import attacks
from tiny import Call

TOKEN = "a-token-that-nobody-guesses"
BASE = "http://localhost"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """Its runner does not run: no job begins."""
    studio = Studio(tmp_path_factory.mktemp("studio"))
    made = adopt_from_world(studio.pairs, 100_000_060)
    (studio.workspace.pairs / made).rename(studio.workspace.pairs / "demo")
    return studio


@pytest.fixture
def client(studio: Studio) -> Iterator[TestClient]:
    app: Any = make_app(studio, token=TOKEN)
    headers = {"authorization": f"Bearer {TOKEN}", "x-studio": "1"}
    with TestClient(app, base_url=BASE, headers=headers, raise_server_exceptions=False) as client:
        yield client


def sent(client: TestClient, attack: dict[str, Any]) -> Any:
    headers = dict(attack.get("headers", {}))
    if "token" in attack:
        headers["authorization"] = f"Bearer {attack['token']}" if attack["token"] else "none"
    more: dict[str, Any] = {"json": attack["json"]} if "json" in attack else {}
    if "body" in attack:
        more["content"] = attack["body"].encode("latin-1", "replace")
    if "raw" in attack or "text" in attack:
        more["content"] = attack.get("text", '{"name": "' + "x" * attack.get("raw", 0) + '"}')
        headers["content-type"] = "application/json"
    path = attack["path"] + (f"?token={attack['query']}" if "query" in attack else "")
    return client.request(attack["method"], path, headers=headers, follow_redirects=False, **more)


def test_no_attack_passes(client: TestClient, studio: Studio) -> None:
    """Each is answered by a 4xx, without a word of a file, and nothing has changed."""
    before = studio.pair("demo"), studio.pairs.ids(), studio.jobs.ids()
    listed = attacks()
    assert len(listed) >= 200
    slow, passed = [], []
    for attack in listed:
        began = time.monotonic()
        answer = sent(client, attack)
        took = time.monotonic() - began
        if not 400 <= answer.status_code < 500:
            passed.append((attack, answer.status_code, answer.text[:100]))
        assert answer.headers["content-security-policy"] == POLICY
        assert "root:" not in answer.text
        slow += [(attack["name"], round(took, 2))] if took > 1 else []
    assert not passed, "\n".join(map(str, passed))
    assert (studio.pair("demo"), studio.pairs.ids(), studio.jobs.ids()) == before
    assert len(slow) <= 8, slow  # decoders are processes, which start slowly where cores are shared


def test_the_token_goes_from_the_address_to_a_cookie(studio: Studio) -> None:
    app: Any = make_app(studio, token=TOKEN)
    with TestClient(app, base_url=BASE) as client:
        assert client.get("/").status_code == 401
        entered = client.get(f"/?token={TOKEN}", follow_redirects=False)
        assert entered.status_code == 303
        assert "HttpOnly" in entered.headers["set-cookie"]
        assert "SameSite=Strict" in entered.headers["set-cookie"]
        page = client.get("/")
        assert page.status_code == 200
        assert TOKEN not in page.text
        assert client.post("/api/jobs/resume").status_code == 403  # without the page's header


def test_who_tries_tokens_or_changes_too_often_waits(studio: Studio) -> None:
    app: Any = make_app(studio, token=TOKEN)
    with TestClient(app, base_url=BASE) as client:
        tries = [client.get(f"/?token=wrong{n}", follow_redirects=False).status_code for n in range(40)]
        assert tries[:30] == [401] * 30
        assert tries[-1] == 429
        assert client.get("/api/pairs").status_code == 429
        own = {"authorization": f"Bearer {TOKEN}", "x-studio": "1"}
        assert client.get("/api/pairs", headers=own).status_code == 200  # who has the token is not kept out by others
        app.app._changes = Bucket(5, 0)
        changes = [client.post("/api/jobs/none/stop", headers=own).status_code for _ in range(7)]
        assert changes == [404] * 5 + [429] * 2


def test_an_upload_that_stops_half_way_is_ended() -> None:
    """A body that pauses is cut off; the application learns that the client is gone."""
    heard = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            heard.append(message)
        await send({"type": "http.response.start", "status": 422, "headers": []})

    async def run() -> list[Any]:
        parts = [{"type": "http.request", "body": b"half", "more_body": True}]

        async def receive() -> Any:
            if parts:
                return parts.pop()
            await asyncio.sleep(60)

        answers: list[Any] = []

        async def send(message: Any) -> None:
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"x-studio", b"1")], "query_string": b""}
        await asyncio.wait_for(Access(application, token=None, idle=0.2)(scope, receive, send), 5)
        return answers

    assert asyncio.run(run())[0]["status"] == 422
    assert [message["body"] for message in heard] == [b"half"]


def test_photos_masks_and_suggestions_over_the_network(client: TestClient) -> None:
    made = client.post("/api/pairs", json={"name": "Net", "labels": ["cat"]}).json()
    content = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(content, "JPEG")
    path = f"/api/pairs/{made['id']}"
    added = client.post(f"{path}/samples/0/photos?name=A%20b.jpg", content=content.getvalue())
    assert added.status_code == 201
    assert added.json()["added"] == "a-b.jpg"
    assert client.get(f"{path}/photos/a-b.jpg").content == content.getvalue()
    assert client.get(f"{path}/photos/a-b.jpg/mask").status_code == 404
    mask = io.BytesIO()
    Image.new("L", (40, 30), 255).save(mask, "PNG")
    assert client.put(f"{path}/photos/a-b.jpg/mask", content=mask.getvalue()).json()["problems"] == []
    assert client.get(f"{path}/photos/a-b.jpg/mask").headers["cache-control"] == "no-cache"
    refused = client.put(f"{path}/photos/a-b.jpg/mask", content=content.getvalue()[:40])
    assert refused.status_code == 422
    assert refused.json()["fix"]


def test_a_recipe_comes_with_its_schema(client: TestClient) -> None:
    found = client.get("/api/recipe?method=clic").json()
    assert found["recipe"]["method"] == "clic"
    assert set(found["recipe"]) == set(found["schema"]["properties"])
    state = client.get("/api/state").json()
    assert {m["name"] for m in state["methods"]} >= {"magictailor", "clic", "dreambooth"}
    assert {m["name"] for m in state["segmenters"]} >= {"embedded", "grabcut", "clipseg", "dino+sam2", "sam3"}
    assert sum(len(group) for group in state["prompts"].values()) == 20


def test_jobs_are_queued_moved_and_removed_over_the_network(client: TestClient) -> None:
    first, second = (
        client.post("/api/jobs", json={"spec": {"kind": "train", "pair": "demo"}}).json() for _ in range(2)
    )
    assert (first["state"], first["actions"]) == ("queued", ["pause", "stop"])
    assert (
        client.patch(f"/api/jobs/{second['id']}", json={"move": True, "before": first["id"]}).json()["order"]
        < first["order"]
    )
    assert client.post(f"/api/jobs/{first['id']}/pause").json()["state"] == "paused"
    assert client.post(f"/api/jobs/{first['id']}/preview").status_code == 422
    assert client.get(f"/api/jobs/{first['id']}/export.zip").status_code == 404
    for job in (first, second):
        assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
    assert client.get("/api/jobs").json() == []


def test_another_interface_needs_the_token(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other computers"):
        serve_studio(tmp_path / "s", host="0.0.0.0", token=False)
    token = studio_token(tmp_path)
    assert len(token) > 30
    assert studio_token(tmp_path) == token
    assert (tmp_path / "token").stat().st_mode & 0o077 == 0


def folder_in_place_of(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).mkdir(parents=True)


def file_in_place_of(name: str) -> Callable[[Path], object]:
    def make(root: Path) -> None:
        root.mkdir()
        (root / name).write_text("theirs")

    return make


ROOTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file": (lambda root: root.write_text("theirs"), "is a file; choose another folder"),
    "a run": (file_in_place_of("run.json"), "holds something other than a studio; choose a new or empty folder"),
    "a pair": (file_in_place_of("0_person_a.png"), "holds something other than a studio; choose a new or empty folder"),
    "jobs is a file": (file_in_place_of("jobs"), "jobs: not a folder; move it away"),
    "the token is a folder": (folder_in_place_of("token"), "token: not a file; move it away"),
    "the lock is a folder": (folder_in_place_of("studio.lock"), "studio.lock: not a file; move it away"),
}


@pytest.mark.parametrize("kind", ROOTS)
def test_a_folder_that_is_no_studio_is_refused_as_it_is(tmp_path: Path, call: Call, kind: str) -> None:
    root, (make, line) = tmp_path / "root", ROOTS[kind]
    make(root)
    before = sorted(tmp_path.rglob("*"))
    result = call("studio", root, "--demo", "--no-open")
    assert (result.code, result.err.startswith("error: ROOT "), line in result.err) == (2, True, True), result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_refused_studio_leaves_nothing(tmp_path: Path, call: Call) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = {
            ("--port", taken.getsockname()[1]): "taken by another program; choose another",
            ("--port", -1): "--port -1: not a port; choose",
            ("--port", 70000): "--port 70000: not a port; choose",
            ("--host", "nope.invalid"): "--host nope.invalid: not an address of this computer; try",
            ("--models", tmp_path / "none"): "none: no such folder; make it first",
            ("--export-to", f"../x={tmp_path}"): "--export-to ../x: not a folder's name; write a plain word",
            ("--export-to", f"a b={tmp_path}"): "--export-to a b: not a folder's name; write a plain word",
        }
        for option, line in refused.items():
            result = call("studio", tmp_path / "new" / "root", *option, "--no-open")
            assert (result.code, line in result.err) == (2, True), result.err
    assert not any(tmp_path.iterdir())


def test_a_studio_opens_again_whatever_else_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()  # put there before the first start
    first = Studio(tmp_path)
    with first.workspace.locked():
        studio_token(tmp_path)
        with pytest.raises(InputError, match=r"root .*: another studio works here; close it"):
            serve_studio(tmp_path, port=-1)
    (tmp_path / "notes.txt").write_text("mine")
    assert Studio(tmp_path, exports={"comfyui": tmp_path}).pairs.ids() == []
