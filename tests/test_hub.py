"""Without a network, nobody waits for the hub's library to give up."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from magictailor.common import hub, pretrained
from magictailor.common.errors import InputError
from magictailor.common.hub import hub_answers


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    hub_answers.cache_clear()
    monkeypatch.setattr(hub, "getproxies", dict)
    yield
    hub_answers.cache_clear()


def test_a_host_that_listens_answers_and_a_closed_port_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        assert hub_answers()
    assert hub_answers()  # asked once
    hub_answers.cache_clear()
    assert not hub_answers()
    hub_answers.cache_clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://no-such-host.invalid:port")
    assert not hub_answers()
    hub_answers.cache_clear()
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy"})
    assert hub_answers()


class Remembering:
    """A model's class that says how it was asked."""

    asked: dict[str, Any]

    @classmethod
    def from_pretrained(cls, source: str, **options: Any) -> None:
        cls.asked = options
        raise OSError(source)


@pytest.mark.parametrize("answers", [True, False])
def test_a_name_of_the_hub_is_looked_up_in_the_cache_alone_where_the_hub_does_not_answer(
    answers: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pretrained, "hub_answers", lambda: answers)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="owner/name: cannot be found or downloaded"):
        pretrained.load_pretrained(Remembering, "owner/name", "check the name")
    assert Remembering.asked["local_files_only"] is not answers
