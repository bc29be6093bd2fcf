"""Recipes and runs that the version before wrote are read: `recipes-0.json` is its own output."""

import json
from pathlib import Path
from typing import Any

import pytest

from magictailor.common.files import write_json
from magictailor.methods import METHODS
from magictailor.recipe import recipe_from, with_settings
from magictailor.recipe.settings import upgraded
from magictailor.training.run_folder import RUN_FILE
from tiny import DEFAULTS, Call, pair, train

OLD_RECIPES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recipes-0.json").read_text("utf-8"))
OLD_MAGICTAILOR = next(old for old in OLD_RECIPES if old["method"] == "magictailor")


@pytest.mark.parametrize("old", OLD_RECIPES, ids=lambda old: old["method"])
def test_an_old_recipe_is_read_as_the_same_methods_recipe_of_today(old: dict[str, Any]) -> None:
    assert recipe_from(upgraded(old)) == METHODS[old["method"]](DEFAULTS)


def test_an_old_key_on_the_command_line_is_one_line(call: Call, tiny_folder: Path, tmp_path: Path) -> None:
    from magictailor.world.pairs import world_pair, write_pair

    folder = write_pair(world_pair(3), tmp_path / "pair")
    result = call("train", folder, "--output", tmp_path / "run", "--model", tiny_folder, "--set", "preview_every=0")
    assert result.code == 2
    assert result.err.startswith("error: --set preview_every=0: unknown key")
    assert result.err.endswith("is now 'sampling.preview_every'\n")


def old_run(folder: Path, tiny_folder: Path) -> None:
    """A finished run with the run.json of the version before."""
    settings = ["phases.0.steps=1", "phases.1.steps=1", "sampling.preview_every=0"]
    recipe = with_settings(METHODS["magictailor"](DEFAULTS), settings)
    train(pair(), folder, model=str(tiny_folder), recipe=recipe)
    old = json.loads(json.dumps({**OLD_MAGICTAILOR, "preview_every": 0}))
    for phase in old["phases"]:
        phase["steps"] = 1
    tree = json.loads((folder / RUN_FILE).read_text("utf-8"))
    del tree["format"], tree["base"]
    write_json(folder / RUN_FILE, {**tree, "recipe": old})


def test_the_command_line_prints_that_a_run_is_of_the_version_before(
    call: Call, tiny_folder: Path, tmp_path: Path
) -> None:
    old_run(tmp_path / "run", tiny_folder)
    result = call("generate", tmp_path / "run", "<person>", "--number", 1, "--steps", 2)
    assert (result.code, result.err) == (0, "")
    assert "format 0" in result.out
