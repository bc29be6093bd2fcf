"""A recipe's JSON form, and ``key=value`` changes of it."""

import difflib
import json
import re
from typing import Any, TypeVar

from pydantic import ValidationError

from magictailor.common.errors import InputError
from magictailor.common.records import explained
from magictailor.recipe.config import ConfigModel
from magictailor.recipe.recipe import Recipe

# Keys of recipes before format 1, and where the same setting is now.
OLD_KEYS = {
    "references": "data.references", "batch": "data.batch", "union": "data.collage", "redraw": "data.resample_every",
    "augment.jitter": "data.augment.jitter", "augment.brightness_alone": "data.augment.only_brightness",
    "augment.flip": "data.augment.flip", "augment.scale": "data.augment.scale",
    "augment.shared": "quirks.shared_augmentation", "prompt": "prompts.template",
    "component_prompt": "prompts.component_template", "templates": "prompts.templates", "called": "prompts.name",
    "component_called": "prompts.component_name", "rare_words": "prompts.initial_words", "masked": "loss.masked",
    "context": "loss.context_mask", "context.kind": "loss.context_mask.kind", "context.value": "loss.context_mask.value",
    "prior": "loss.prior", "prior.weight": "loss.prior.weight", "prior.images": "loss.prior.images",
    "prior.prompt": "loss.prior.prompt", "prior.guidance": "loss.prior.guidance", "prior.eta": "loss.prior.eta",
    "stratified_times": "loss.stratified_times", "rate_factor": "optimisation.lr_scale", "betas": "optimisation.betas",
    "weight_decay": "optimisation.weight_decay", "clip": "optimisation.max_grad_norm",
    "micro_batch": "optimisation.micro_batch", "checkpointing": "optimisation.checkpointing",
    "guidance": "sampling.guidance", "sampling_steps": "sampling.steps", "base_steps": "sampling.base_steps",
    "preview_every": "sampling.preview_every", "reference.rate_returns": "quirks.lr_returns",
    "reference.hard_start": "quirks.hard_momentum_start", "reference.clip_skips_words": "quirks.clip_skips_words",
}  # fmt: skip
OLD_PATTERNS = {
    r"train\.(\d+)\.rate": r"train.\1.lr_scale",
    r"phases\.\d+\.degradation\.clamp": "quirks.clamp_degraded",
}


def new_key(key: str) -> str | None:
    """Today's key of a setting that had another one before format 1; None if it had none."""
    for pattern, new in OLD_PATTERNS.items():
        if re.fullmatch(pattern, key):
            return re.sub(pattern, new, key)
    return OLD_KEYS.get(key)


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
        tree = tree[int(part)] if isinstance(tree, list) else tree.setdefault(part, {})
    if isinstance(tree, list):
        tree[int(last)] = value
    else:
        tree[last] = value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a byte that is no UTF-8 comes as a surrogate, which JSON cannot hold
        return None if text.lower() == "none" else text.encode(errors="replace").decode()


AnyConfig = TypeVar("AnyConfig", bound=ConfigModel)


def with_settings(config: AnyConfig, settings: list[str]) -> AnyConfig:
    """``key=value`` settings applied: ``phases.1.lr=1e-5``, ``train.0.rank=16``, ``phases.1.preserve=none``.

    Raises:
        InputError: an unknown key (the nearest one, or its new name, is given) or a value out of range.
    """
    tree = config.model_dump(mode="json")
    for setting in settings:
        key, equals, text = setting.partition("=")
        known = _keys(tree)
        if not equals:
            raise InputError(setting, "write key=value, for instance seed=1", field="settings")
        if key == "method":
            raise InputError(
                f"{setting}: the method is an argument of its own",
                "give --method, or method= in Python",
                field="settings",
            )
        if key not in known:
            new, near = new_key(key), difflib.get_close_matches(key, known, 1, 0.3)
            fix = f"it is now {new!r}" if new else f"the nearest one is {(near or ['seed'])[0]!r}"
            raise InputError(f"{setting}: unknown key", fix, field="settings")
        _assign(tree, key, _parsed(text))
    return config_from(type(config), tree)


def recipe_from(tree: Any) -> Recipe:
    """A recipe from its JSON form. Raises InputError, see `config_from`."""
    return config_from(Recipe, tree)


def config_from(kind: type[AnyConfig], tree: Any, name: str = "recipe") -> AnyConfig:
    """A recipe, or a part of one, from its JSON form.

    Args:
        name: what it is, for the error.

    Raises:
        InputError: the first field that is unknown, missing or out of range.
    """
    try:
        return kind.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        problem, expected = explained(error)
        raise InputError(f"{name}: {problem}", expected) from error


def upgraded(old: dict[str, Any]) -> dict[str, Any]:
    """The JSON form of a recipe from before format 1, with today's keys."""
    new: dict[str, Any] = json.loads(json.dumps({k: old[k] for k in ("method", "seed", "train", "phases") if k in old}))
    for trainable in new.get("train", []):
        if "rate" in trainable:
            trainable["lr_scale"] = trainable.pop("rate")
    for phase in new["phases"]:
        if phase.get("degradation", {}).pop("clamp", False):
            _assign(new, "quirks.clamp_degraded", True)
        if (phase.get("attention") or {}).get("blocks") == "both":
            phase["attention"]["blocks"] = "all"
    for key, target in OLD_KEYS.items():
        parent: Any = old
        *parents, last = key.split(".")
        for part in parents:
            parent = parent.get(part)
        if parent and last in parent:  # a recipe may be older than a setting
            _assign(new, target, parent[last])
    return new
