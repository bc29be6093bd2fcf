"""A study's file: what is made is read back, and what is changed is checked."""

from pathlib import Path

import pytest

from magictailor.common.errors import InputError
from magictailor.study.design import STUDY_FILE, Study, parse_study, read_study
from magictailor.study.toml import study_toml
from studies import made_up_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return made_up_study(tmp_path_factory.mktemp("design"))


def test_a_file_says_what_the_study_is(study: Study) -> None:
    assert parse_study(study_toml(study)) == study


@pytest.mark.parametrize(
    "text", ['say "so"', "two\nlines", 'three """ quotes\nhere', "back\\slash", "ünï\u2028code", 'ends with "', "\x7f"]
)
def test_any_text_survives(study: Study, text: str) -> None:
    changed = study.model_copy(update={"welcome": text})
    assert parse_study(study_toml(changed)).welcome == text


def test_texts_and_rules_can_be_changed(study: Study) -> None:
    text = (
        study_toml(study).replace("max_failed_checks = 0", "max_failed_checks = 1").replace("tie = false", "tie = true")
    )
    changed = parse_study(text)
    assert changed.exclusion.max_failed_checks == 1
    assert changed.special == ("tie",)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("max_failed_checks = 0", "max_failed_checks = -1", r"exclusion\.max_failed_checks: -1; choose 0 or more"),
        ("min_answered = 0.5", "min_answered = 50", r"exclusion\.min_answered: 50; choose 1.* or less"),
        ('choose = "best"', 'choose = "worst"', r"answering\.choose: 'worst'; choose one of 'best' or 'pair'"),
        ("tie = false", 'tie = "perhaps"', r"answering\.tie: 'perhaps'; "),
        ("cannot_say =", "cannotsay =", r"answering\.cannotsay: False; the nearest key is cannot_say"),
        ("format = 1", "format = 2", r"format: 2; choose one of 1"),
        ("order_key =", "# order_key =", r"order_key: missing; add it"),
        ("invitations = 0", "invitations = 5", r"entry: invitations must be above 0 for the mode invited"),
        ('kind = "study"', 'kind = "stud"', r"groups\.\d+\.kind: 'stud'; choose one of 'study', 'practice' or 'check'"),
        ('kind = "practice"', 'kind = "check"', r"groups\.\d+: a check needs an answer"),
        ('method = "clic"', 'method = "dreambooth"', r"group group-\d\d has two pictures of dreambooth"),
        ("format = 1", "format = ", r"not valid TOML .*line 4"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_a_fix(study: Study, old: str, new: str, line: str) -> None:
    text = study_toml(study)
    assert old in text
    with pytest.raises(InputError, match=line):
        parse_study(text.replace(old, new, 1) if "clic" not in old else text.replace(old, new))


def test_groups_of_one_study_compare_the_same_methods(study: Study) -> None:
    counted = [i for i, group in enumerate(study.groups) if group.kind == "study"]
    text = study_toml(study)
    first = study.groups[counted[1]].pictures[0]
    changed = text.replace(
        f'{{file = "{first.file}", method = "{first.method}"}}', f'{{file = "{first.file}", method = "other"}}'
    )
    with pytest.raises(InputError, match="has different methods from"):
        parse_study(changed)


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    made = made_up_study(tmp_path)
    gone = tmp_path / "study" / "pictures" / made.groups[0].files[0]
    gone.unlink()
    with pytest.raises(InputError, match=f"{gone.name}: missing; copy it back"):
        read_study(tmp_path / "study")


def test_a_folder_without_a_study_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a study .*`magictailor study make"):
        read_study(tmp_path)
    (tmp_path / STUDY_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a text"):
        read_study(tmp_path)
