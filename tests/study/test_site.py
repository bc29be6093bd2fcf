"""The study's site: what a rater does arrives, and nothing else changes a count."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from magictailor.study.arrangement import shown_pictures
from magictailor.study.design import Entry, Study
from magictailor.study.raters import code_of, invitations, rater_of
from magictailor.study.site import make_app
from magictailor.study.store import Store
from studies import METHODS, made_up_study

SECRET = b"s" * 32
HOSTILE = Path(__file__).with_name("hostile.toml")


class Served:
    """A study's site and one started rater."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.study: Study = made_up_study(folder, **options)
        self.store = Store(self.study, folder / "study")
        self.client = TestClient(
            make_app(self.study, folder / "study", self.store, SECRET), "http://localhost:8000", follow_redirects=False
        )

    def start(self, token: str = "") -> str:
        answer = self.client.post("/start", json={"consent": True, "token": token})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["link"]).removeprefix("/r/")

    def post(self, token: str, **changes: Any) -> Any:
        group = self.study.counted[0]
        shown = shown_pictures(self.study, rater_of(token), group)
        body = {"group": group.name, "question": "text", "choice": shown[0], "revision": 1, "seconds": 2.0, **changes}
        return self.client.post(f"/r/{token}/answers", json=body)

    def counts(self) -> list[Any]:
        return [*self.store.answers(), sorted(self.store.raters())]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    with made.client:
        yield made
    made.store.close()


def page_data(text: str) -> Any:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_a_rater_starts_answers_and_comes_back(site: Served) -> None:
    welcome = site.client.get("/")
    assert welcome.status_code == 200
    assert "rater" not in page_data(welcome.text)["session"]
    assert not welcome.cookies  # nothing is kept before consent
    token = site.start()
    assert site.post(token).json() == {"revision": 1}
    session = page_data(site.client.get(f"/r/{token}").text)["session"]
    assert session["rater"] == rater_of(token)
    assert [a["revision"] for a in session["answers"]] == [1]
    again = site.client.get("/")
    assert (again.status_code, again.headers["location"]) == (303, f"/r/{token}")
    assert site.client.get("/?new=1").status_code == 200


def test_the_raters_own_cookie_is_the_only_one_and_scripts_cannot_read_it(site: Served) -> None:
    cookies = site.client.post("/start", json={"consent": True}).headers.get_list("set-cookie")
    assert len(cookies) == 1
    assert cookies[0].startswith("rater=")
    assert "HttpOnly" in cookies[0]
    assert "SameSite=lax" in cookies[0]


def test_an_answer_pressed_twice_counts_once_and_can_be_changed(site: Served) -> None:
    token = site.start()
    shown = shown_pictures(site.study, rater_of(token), site.study.counted[0])
    assert [site.post(token).status_code for _ in range(3)] == [200, 200, 200]
    assert site.post(token, choice=shown[1], revision=2).json() == {"revision": 2}
    late = site.post(token)  # the first request, again
    assert (late.status_code, late.json()["revision"]) == (409, 2)
    (answer,) = site.store.answers()
    assert (answer.choice, answer.revision, answer.seconds) == (shown[1], 2, 4.0)


def test_every_answer_has_the_headers_and_nothing_is_cached_that_is_personal(site: Served) -> None:
    token = site.start()
    for path in ("/", f"/r/{token}", "/static/study.js", f"/pictures/{site.study.counted[0].files[0]}", "/nothing"):
        headers = site.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
    assert site.client.get(f"/r/{token}").headers["cache-control"] == "no-store"


def test_pages_name_no_method(site: Served) -> None:
    token = site.start()
    site.post(token)
    pages = [site.client.get(path).text for path in ("/?new=1", f"/r/{token}", "/static/study.js", "/static/study.css")]
    assert not any(re.search(rf"\b{method}\b", page) for page in pages for method in METHODS)


def test_files_of_the_study_are_not_served(site: Served) -> None:
    for path in ("/pictures/../study.toml", "/pictures/study.toml", "/study.toml", "/static/page.html", "/static/../site.py",
                 "/pictures/%2e%2e%2fstudy.toml", "/answers.sqlite", "/secret.txt", "/openapi.json", "/docs"):  # fmt: skip
        assert site.client.get(path).status_code == 404, path


def test_a_link_that_is_none_says_so_without_repeating_it(site: Served) -> None:
    answer = site.client.get("/r/<script>alert(1)</script>")
    assert answer.status_code == 404
    assert "alert" not in answer.text
    assert "not valid" in site.client.get("/r/AAAAAAAAAAAAAAAAAAAAAA").text


def test_an_erased_rater_cannot_answer(site: Served) -> None:
    token = site.start()
    site.post(token)
    site.store.erase([rater_of(token)])
    assert site.post(token).status_code == 410
    assert site.client.get(f"/r/{token}").status_code == 404
    assert site.store.answers() == []


def test_only_the_invited_start(tmp_path: Path) -> None:
    made = Served(tmp_path, entry=Entry(mode="invited", invitations=2))
    with made.client:
        first, second = invitations(made.study, SECRET)
        assert made.client.post("/start", json={"consent": True}).status_code == 403
        assert page_data(made.client.get(f"/r/{first}").text)["session"] == {"mode": "server", "token": first}
        assert made.post(first).status_code == 410  # not without consent
        assert made.start(first) == first
        assert made.start(first) == first  # pressed twice
        assert made.post(first).status_code == 200
        assert list(made.store.raters()) == [rater_of(first)]
        assert second not in made.client.get(f"/r/{first}").text


def test_a_crowd_platform_gets_a_code(tmp_path: Path) -> None:
    made = Served(tmp_path, entry=Entry(mode="crowd"))
    with made.client:
        token = made.start()
        code = page_data(made.client.get(f"/r/{token}").text)["session"]["code"]
        assert code == code_of(rater_of(token), SECRET)
        assert re.fullmatch(r"[A-Z2-9]{8}", code)


def test_a_full_study_lets_nobody_new_in(tmp_path: Path) -> None:
    made = Served(tmp_path, entry=Entry(max_raters=1))
    with made.client:
        token = made.start()
        refused = made.client.post("/start", json={"consent": True})
        assert (refused.status_code, "all the people it needs" in refused.text) == (403, True)
        assert made.post(token).status_code == 200


# --- hostile requests


def hostile_requests() -> list[tuple[str, dict[str, Any]]]:
    """Each as a description and the changes to a right request."""
    found: list[tuple[str, dict[str, Any]]] = []
    for entry in tomllib.loads(HOSTILE.read_text("utf-8"))["requests"]:
        for key, values in entry.items():
            if key != "about":
                found += [(f"{key} {value!r}"[:70], {key: value}) for value in values]
    return found


def send(site: Served, own: str, other: str, change: dict[str, Any]) -> Any:
    group, foreign = site.study.counted[0], site.study.counted[1].files[0]
    shown = shown_pictures(site.study, rater_of(own), group)[1]
    names = {"own": own, "other": other, "group": group.name, "question": "text", "shown": shown, "foreign": foreign}

    def filled(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: names.get(match[1], match[0]), text)

    (key, value), headers = next(iter(change.items())), {"content-type": "application/json"}
    body: dict[str, Any] = {"group": group.name, "question": "text", "choice": shown, "revision": 2, "seconds": 1.0}
    path, method, content = f"/r/{own}/answers", "POST", ""
    if key == "paths":
        path = filled(value)
    elif key in ("choices", "groups", "questions"):
        body[key[:-1]] = filled(value)
    elif key == "changes":
        name = json.loads("{" + re.sub(r":.*", ": 0", value) + "}").popitem()[0]
        content = json.dumps({k: v for k, v in body.items() if k != name})[:-1] + f", {filled(value)}}}"
    elif key == "bodies":
        content = filled(value)
        return site.client.request(method, path, content=content, headers=headers)
    elif key == "headers":
        headers |= value
    elif key == "methods":
        method = value
    elif key == "sizes":
        content = json.dumps({**body, "choice": "x" * value})
    elif key == "starts":
        path, content = "/start", filled(value)
    return site.client.request(method, path, content=content or json.dumps(body), headers=headers)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str, str]]:
    """A study by invitation, where two have started and the attacker has answered once."""
    made = Served(tmp_path_factory.mktemp("attacked"), entry=Entry(mode="invited", invitations=3))
    with made.client:
        own, victim, _ = invitations(made.study, SECRET)
        made.start(own)
        made.start(victim)
        assert made.post(own).status_code == 200
        assert made.post(victim).status_code == 200
        yield made, own, rater_of(victim)


def test_there_are_a_hundred_hostile_requests() -> None:
    assert len(hostile_requests()) >= 100


@pytest.mark.parametrize(("about", "change"), hostile_requests())
def test_a_hostile_request_changes_no_count(
    attacked: tuple[Served, str, str], about: str, change: dict[str, Any]
) -> None:
    site, own, other = attacked
    before = site.counts()
    answer = send(site, own, other, change)
    assert site.counts() == before
    assert 300 <= answer.status_code < 500, f"{answer.status_code}: {answer.text}"
    assert "<script>" not in answer.text.replace('<script id="data"', "")


def test_replays_of_all_that_was_sent_change_no_count(attacked: tuple[Served, str, str]) -> None:
    site, own, _ = attacked
    group = site.study.counted[2]
    shown = shown_pictures(site.study, rater_of(own), group)
    sent = [{"group": group.name, "choice": shown[i % 3], "revision": i + 1} for i in range(6)]
    assert [site.post(own, **body).status_code for body in sent] == [200] * 6
    before = site.counts()
    for body in sent * 2:
        site.post(own, **body)
    assert site.counts() == before


def test_the_hostile_requests_are_right_but_for_their_change(attacked: tuple[Served, str, str]) -> None:
    """Without the change, the same request does change a count: so it is the change that was refused."""
    site, own, other = attacked
    before = site.counts()
    assert send(site, own, other, {"changes": '"seconds": 1.5'}).status_code == 200
    assert site.counts() != before
