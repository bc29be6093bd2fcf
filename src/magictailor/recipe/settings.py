"""A recipe's JSON form, and ``key=value`` changes of it."""

import difflib
import json
import reprlib
from typing import Any, TypeVar

from pydantic import ValidationError

from magictailor.common.errors import InputError
from magictailor.recipe.part import Part
from magictailor.recipe.recipe import Recipe


def _keys(value: Any, path: str = "") -> list[str]:
    """All settable keys: ``phases.0.lr``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return [path]
    inner = [key for k, v in items for key in _keys(v, f"{path}.{k}" if path else str(k))]
    return [*([path] if path else []), *inner]


def _assign(tree: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    if isinstance(tree, list):
        tree[int(last)] = value
    else:
        tree[last] = value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a byte that is no UTF-8 comes as a surrogate, which JSON cannot hold
        return None if text.lower() == "none" else text.encode(errors="replace").decode()


AnyPart = TypeVar("AnyPart", bound=Part)


def with_settings(recipe: AnyPart, settings: list[str]) -> AnyPart:
    """``key=value`` settings applied: ``phases.1.lr=1e-5``, ``train.0.rank=16``, ``phases.1.preserve=none``.

    Raises:
        InputError: an unknown key (the nearest known one is named) or a value out of range.
    """
    tree = recipe.model_dump(mode="json")
    for setting in settings:
        key, equals, text = setting.partition("=")
        known = _keys(tree)
        if not equals:
            raise InputError(f"--set {setting}: write key=value, for instance seed=1")
        if key == "method":
            raise InputError(f"--set {setting}: choose a method with --method")
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.3) or ["seed"]
            raise InputError(f"--set {setting}: unknown key {key!r}; the nearest known one is {near[0]!r}")
        _assign(tree, key, _parsed(text))
    return part_from(type(recipe), tree)


def recipe_from(tree: Any) -> Recipe:
    """A recipe from its JSON form. Raises InputError, see `part_from`."""
    return part_from(Recipe, tree)


def part_from(kind: type[AnyPart], tree: Any) -> AnyPart:
    """A recipe, or a part of one, from its JSON form.

    Raises:
        InputError: the first field that is unknown, missing or out of range.
    """
    try:
        return kind.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        got = reprlib.repr(first["input"])
        raise InputError(f"recipe: {where}: {first['msg']} (got {got})") from error
