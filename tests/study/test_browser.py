"""Raters in a real browser: on a phone and a desk, by keyboard alone, interrupted, twice, back and forth, and without a server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from magictailor.study.arrangement import group_order, shown_pictures
from magictailor.study.design import Answering, Entry, Study
from magictailor.study.page import write_page
from magictailor.study.raters import rater_of
from magictailor.study.store import Store
from studies import chromium, made_up_study, served
from tiny import Call

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1400, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed (pip install playwright)"
    )
    path = chromium()
    if path is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with playwright.sync_playwright() as runner:
        started = runner.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def study(home: Path) -> Study:
    return made_up_study(home, groups=3, checks=1, answering=Answering(tie=True), entry=Entry(mode="crowd"))


@pytest.fixture(scope="module")
def address(home: Path, study: Study) -> Iterator[str]:
    with served(home / "study") as site:
        yield site


class Visit:
    """A window, and what went wrong in it."""

    def __init__(self, browser: Any, size: dict[str, int], site: str) -> None:
        self.context = browser.new_context(viewport=size, has_touch=size is PHONE, accept_downloads=True)
        self.page = self.context.new_page()
        self.site, self.problems = site, list[str]()
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "request", lambda r: None if r.url.startswith((site, "data:", "blob:")) else self.problems.append(r.url)
        )

    def start(self) -> str:
        """The rater's token."""
        self.page.goto(self.site)
        self.page.get_by_role("checkbox").check()
        self.page.get_by_role("button", name="Start").click()
        self.page.wait_for_selector(".screens")
        return str(self.page.url.split("/r/")[-1].split("#")[0])

    def choose(self, question: str, number: int) -> None:
        self.page.locator(f"[data-question={question}] .chip").nth(number).click()

    def is_saved(self) -> None:
        self.page.get_by_text("Saved", exact=True).wait_for()

    def widest(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def close(self) -> None:
        self.context.close()
        assert self.problems == []


def choices_of(home: Path, study: Study, token: str) -> dict[tuple[str, str], tuple[str, int]]:
    store = Store(study, home / "study")
    found = {(a.group, a.question): (a.choice, a.revision) for a in store.answers(rater_of(token))}
    store.close()
    return found


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_rater_goes_through_a_study(
    browser: Any, home: Path, study: Study, address: str, size: dict[str, int]
) -> None:
    visit = Visit(browser, size, address)
    token = visit.start()
    visit.page.get_by_role("link", name="Start with the practice").click()
    expected = {}
    for group in group_order(study, rater_of(token)):
        visit.page.locator(".prompt", has_text=group.prompt).wait_for()
        shown = shown_pictures(study, rater_of(token), group)
        drawn = visit.page.locator(".picture img").evaluate_all(
            "found => found.map(image => image.src.split('/').pop())"
        )
        assert tuple(drawn) == shown  # Python and the page draw the same order
        assert visit.widest() <= size["width"]
        for place, question in enumerate(study.questions):
            visit.choose(question.name, place)
            expected[group.name, question.name] = ((*shown, "tie")[place], 1)
        visit.is_saved()
        visit.page.locator(".turn .primary").last.click()
    visit.page.get_by_role("heading", name="Thank you").wait_for()
    assert visit.page.locator("#code").inner_text() != ""
    assert choices_of(home, study, token) == expected
    visit.close()


def test_by_keyboard_alone(browser: Any, home: Path, study: Study, address: str) -> None:
    visit = Visit(browser, DESK, address)
    keys = visit.page.keyboard
    visit.page.goto(address)
    keys.press("Tab")  # the box
    keys.press("Space")
    keys.press("Tab")
    keys.press("Enter")
    visit.page.wait_for_selector(".screens")
    token = visit.page.url.split("/r/")[-1].split("#")[0]
    keys.press("Tab")
    if visit.page.evaluate("document.activeElement.id") == "to-overview":
        keys.press("Tab")
    keys.press("Enter")
    order = group_order(study, rater_of(token))
    for number, group in enumerate(order):
        visit.page.locator(".prompt", has_text=group.prompt).wait_for()
        if number == 1:  # arrows and Tab, as in any form
            first = visit.page.locator("[data-question=text] input").first
            first.focus()
            keys.press("Space")
            keys.press("ArrowRight")
            keys.press("2")  # the focused question is answered already: it is changed
            keys.press("3")
            keys.press("1")
        else:
            for key in "213":
                keys.press(key)
        visit.page.wait_for_timeout(50)
        keys.press("Enter")
    visit.page.get_by_role("heading", name="Thank you").wait_for()
    stored = choices_of(home, study, token)
    assert len(stored) == len(order) * 3
    for number, group in enumerate(order):
        shown = shown_pictures(study, rater_of(token), group)
        if number != 1:
            assert [stored[group.name, q.name][0] for q in study.questions] == [shown[1], shown[0], shown[2]]
    visit.close()


def test_a_closed_tab_goes_on_where_it_was(browser: Any, home: Path, study: Study, address: str) -> None:
    visit = Visit(browser, PHONE, address)
    token = visit.start()
    visit.page.goto(f"{address}/r/{token}#{group_order(study, rater_of(token))[1].name}")
    visit.choose("text", 1)
    visit.is_saved()
    visit.page.close()
    visit.page = visit.context.new_page()  # the same browser, by its cookie
    visit.page.goto(address)
    visit.page.get_by_role("heading", name="Continue", exact=True).wait_for()
    assert visit.page.locator(".begun").count() == 1
    elsewhere = Visit(browser, DESK, address)  # another device, by the link
    elsewhere.page.goto(f"{address}/r/{token}")
    elsewhere.page.locator(".begun a").click()
    chosen = elsewhere.page.locator("[data-question=text] input:checked")
    assert (
        chosen.get_attribute("value")
        == shown_pictures(study, rater_of(token), group_order(study, rater_of(token))[1])[1]
    )
    elsewhere.close()
    visit.close()


def test_pressing_twice_and_changing_an_answer(browser: Any, home: Path, study: Study, address: str) -> None:
    visit = Visit(browser, DESK, address)
    token = visit.start()
    order = group_order(study, rater_of(token))
    visit.page.get_by_role("link", name="Start with the practice").click()
    for _ in range(2):
        visit.page.locator("[data-question=text] .chip").first.dblclick()
    visit.page.locator(".turn .primary").click()
    visit.page.locator(".prompt", has_text=order[1].prompt).wait_for()
    visit.page.get_by_role("link", name="Back").click()
    visit.page.locator(".prompt", has_text=order[0].prompt).wait_for()
    assert visit.page.locator("[data-question=text] input:checked").count() == 1
    visit.choose("text", 2)
    visit.is_saved()
    shown = shown_pictures(study, rater_of(token), order[0])
    assert choices_of(home, study, token) == {(order[0].name, "text"): (shown[2], 2)}
    visit.close()


def test_two_tabs_of_one_rater_do_not_lose_what_was_pressed_last(
    browser: Any, home: Path, study: Study, address: str
) -> None:
    visit = Visit(browser, DESK, address)
    token = visit.start()
    group = group_order(study, rater_of(token))[1]
    other = visit.context.new_page()
    for page in (visit.page, other):
        page.goto(f"{address}/r/{token}#{group.name}")
        page.wait_for_selector(".pictures")
    for page, number in ((visit.page, 0), (other, 1), (visit.page, 2)):
        page.locator("[data-question=text] .chip").nth(number).click()
        page.get_by_text("Saved", exact=True).wait_for()
    assert choices_of(home, study, token)[group.name, "text"][0] == shown_pictures(study, rater_of(token), group)[2]
    visit.context.close()  # the browser logs the conflict, which is meant


def test_without_consent_nothing_starts(browser: Any, home: Path, study: Study, address: str) -> None:
    visit = Visit(browser, PHONE, address)
    visit.page.goto(address)
    visit.page.get_by_role("button", name="Start").click()
    visit.page.get_by_text("Please tick the box").wait_for()
    assert visit.context.cookies() == []
    visit.close()


def test_pictures_are_seen_larger(browser: Any, study: Study, address: str) -> None:
    visit = Visit(browser, DESK, address)
    visit.start()
    visit.page.get_by_role("link", name="Start with the practice").click()
    visit.page.locator(".picture").nth(2).click()
    visit.page.get_by_text("Picture C", exact=True).wait_for()
    visit.page.keyboard.press("ArrowRight")
    visit.page.get_by_text("Picture A", exact=True).wait_for()
    visit.page.keyboard.press("Escape")
    assert not visit.page.locator("#zoom").is_visible()
    visit.close()


def test_a_folder_of_files_asks_and_saves_without_any_server(
    browser: Any, home: Path, study: Study, tmp_path: Path, call: Call
) -> None:
    write_page(study, home / "study", tmp_path / "site")
    site = (tmp_path / "site" / "index.html").as_uri()
    visit = Visit(browser, PHONE, (tmp_path / "site").as_uri())
    visit.page.goto(site)
    visit.page.get_by_role("checkbox").check()
    visit.page.get_by_role("button", name="Start").click()
    visit.page.get_by_role("link", name="Start with the practice").click()
    visit.choose("text", 0)
    visit.page.goto(site)  # closed and opened again: what was answered is kept in the browser
    visit.page.get_by_role("link", name="Continue with practice").click()
    visit.choose("identity", 1)
    visit.choose("quality", 2)
    for _ in range(4):
        visit.page.locator(".turn .primary").click()
        visit.page.wait_for_timeout(50)
        for place, question in enumerate(study.questions):
            visit.choose(question.name, place)
    visit.page.locator(".turn .primary").click()
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Save my answers").click()
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    visit.close()
    first, again = (call("study", "add", home / "study", saved) for _ in range(2))
    assert first.code == 0, first.err
    assert "15 new answers of" in first.out
    assert "0 new answers of" in again.out
