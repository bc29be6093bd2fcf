"""The worked example of the docs: another method takes one file and one line."""

import re
from pathlib import Path

import pytest

import magictailor.methods as methods
from magictailor import personalize
from magictailor.common.tensors import read_tensors
from magictailor.recipe import with_settings
from magictailor.training.run_folder import LORA_FILE
from tiny import DEFAULTS, pair

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def test_a_seventh_method_is_one_file_and_one_line(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = DOCS.read_text("utf-8").split("## A seventh method")[1]
    file, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:2]
    assert line.count("\n") == 1
    scope: dict[str, object] = {"Method": methods.Method}
    exec(compile(file, "soft_lora.py", "exec"), scope)
    name, method = eval("{" + line.strip() + "}", scope).popitem()
    monkeypatch.setitem(methods.METHODS, name, method.make)
    recipe = with_settings(methods.METHODS[name](DEFAULTS), ["phases.0.steps=2", "sampling.preview_every=0"])
    run = personalize(pair(), tmp_path / "run", model=str(tiny_folder), recipe=recipe)
    (generated,) = run.generate("<person> with <hair>", steps=3)
    assert generated.record.method == name == recipe.method
    assert len(read_tensors(run.folder / LORA_FILE)) > 10
    assert recipe.loss.context_mask is not None
