"""Who sees what: the same on return, different for everybody, and without a preferred place."""

from collections import Counter
from pathlib import Path

import pytest
from scipy import stats

from magictailor.study.arrangement import choices, draw, group_order, shown_pictures
from magictailor.study.design import Answering, Entry, Study
from magictailor.study.raters import code_of, invitations, new_token, rater_named, rater_of, study_secret
from studies import made_up_study

RATERS = [rater_of(f"rater {number}") for number in range(600)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return made_up_study(tmp_path_factory.mktemp("order"))


def test_the_drawn_number_is_as_published() -> None:
    """FNV-1a of "a" is e40c292c; the mixing is MurmurHash3's, whose image of 0 is 0."""
    value = 0xE40C292C
    value = (value ^ value >> 16) * 0x85EBCA6B % 2**32
    value = (value ^ value >> 13) * 0xC2B2AE35 % 2**32
    assert draw("a") == value ^ value >> 16
    assert draw("a", "b") != draw("ab")


def test_a_rater_sees_the_same_again(study: Study) -> None:
    for rater in RATERS[:20]:
        assert group_order(study, rater) == group_order(study, rater)
        assert {g.name for g in group_order(study, rater)} == set(study.by_name)
        assert group_order(study, rater)[0].kind == "practice"
        for group in study.groups:
            assert sorted(shown_pictures(study, rater, group)) == sorted(group.files)


def test_another_key_draws_another_order(study: Study) -> None:
    other = study.model_copy(update={"order_key": "0" * 16})
    group = study.counted[0]
    assert any(shown_pictures(study, r, group) != shown_pictures(other, r, group) for r in RATERS[:20])


def test_each_method_is_at_each_place_equally_often(study: Study) -> None:
    for group in study.counted:
        method = {p.file: p.method for p in group.pictures}
        seen = Counter(
            (method[file], place) for r in RATERS for place, file in enumerate(shown_pictures(study, r, group))
        )
        table = [[seen[m, place] for place in range(3)] for m in study.methods]
        assert stats.chi2_contingency(table).pvalue > 1e-4


def test_orders_of_two_groups_are_independent(study: Study) -> None:
    first, second = study.counted[:2]
    seen = Counter(
        (first.files.index(shown_pictures(study, r, first)[0]), second.files.index(shown_pictures(study, r, second)[0]))
        for r in RATERS
    )
    assert stats.chi2_contingency([[seen[a, b] for b in range(3)] for a in range(3)]).pvalue > 1e-4


def test_checks_stand_anywhere(study: Study) -> None:
    places = Counter(i for r in RATERS for i, group in enumerate(group_order(study, r)) if group.kind == "check")
    assert set(places) == set(range(1, len(study.groups)))


def test_every_pair_is_drawn_equally_often(tmp_path: Path) -> None:
    study = made_up_study(tmp_path, answering=Answering(choose="pair", tie=True))
    group = study.counted[0]
    pairs = Counter(frozenset(shown_pictures(study, r, group)) for r in RATERS)
    assert len(pairs) == 3
    assert stats.chisquare(list(pairs.values())).pvalue > 1e-4
    assert len(choices(study, RATERS[0], group)) == 3  # two pictures and a tie


def test_raters_names_do_not_give_their_tokens_away(tmp_path: Path) -> None:
    token = new_token()
    assert (
        rater_named(f"http://127.0.0.1:8000/r/{token}#group-03") == rater_named(token) == rater_named(rater_of(token))
    )
    assert token not in rater_of(token)
    secret = study_secret(tmp_path)
    assert study_secret(tmp_path) == secret
    assert (tmp_path / "secret.txt").stat().st_mode & 0o077 == 0
    assert code_of("a", secret) != code_of("b", secret)

    invited = made_up_study(tmp_path, entry=Entry(mode="invited", invitations=50))
    assert len({rater_of(t) for t in invitations(invited, secret)}) == 50
    assert invitations(invited, secret) == invitations(invited, secret)
    assert not set(invitations(invited, secret)) & set(invitations(invited, b"other"))
