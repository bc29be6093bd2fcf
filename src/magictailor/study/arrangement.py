"""What a rater sees, in which order: drawn from a keyed hash, so that nothing has to be stored.

`page/study.js` computes the same. A test compares the two.
"""

from collections.abc import Iterable
from functools import cache

from magictailor.study.design import Group, Study


def draw(*parts: str) -> int:
    """A number in 0 .. 2^32 - 1 for these texts: 32-bit FNV-1a, mixed by the last steps of MurmurHash3."""
    value = 2166136261
    for byte in "/".join(parts).encode():
        value = (value ^ byte) * 16777619 % 2**32
    value = (value ^ value >> 16) * 0x85EBCA6B % 2**32
    value = (value ^ value >> 13) * 0xC2B2AE35 % 2**32
    return value ^ value >> 16


def _drawn_order(names: Iterable[str], *key: str) -> list[str]:
    return sorted(names, key=lambda name: (draw(*key, name), name))


@cache
def _shown(order_key: str, rater: str, group: Group, count: int) -> tuple[str, ...]:
    return tuple(_drawn_order(group.files, order_key, rater, group.name)[:count])


def shown_pictures(study: Study, rater: str, group: Group) -> tuple[str, ...]:
    """The files that the rater sees of a group, from left to right: all, or the two drawn."""
    count = 2 if study.answering.choose == "pair" else len(group.pictures)
    return _shown(study.order_key, rater, group, count)


def group_order(study: Study, rater: str) -> list[Group]:
    """Practice first, then all others in the rater's order."""
    practice = [group for group in study.groups if group.kind == "practice"]
    others = [group.name for group in study.groups if group.kind != "practice"]
    return practice + [study.by_name[name] for name in _drawn_order(others, study.order_key, rater)]


def choices(study: Study, rater: str, group: Group) -> tuple[str, ...]:
    """What the rater may answer to a question about the group."""
    return (*shown_pictures(study, rater, group), *study.special)
