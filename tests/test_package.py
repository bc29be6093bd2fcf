"""The package's names and its command, as a user meets them: in a fresh interpreter."""

import subprocess
import sys

import pytest

import magictailor

CODE = """
import magictailor
from magictailor import {names}
import types
assert not [n for n in magictailor.__all__ if isinstance(getattr(magictailor, n), types.ModuleType)]
"""
# Modules are counted, and not seconds. What a refusal may not import takes seconds each.
COUNTED = """
import sys
from magictailor.__main__ import main
try:
    main()
finally:
    heavy = {'torch', 'diffusers', 'transformers', 'peft', 'pandas', 'scipy', 'cv2'} & set(sys.modules)
    print(len(sys.modules), *heavy, file=sys.stderr)
"""
HELP = 500  # modules, of which a bare Python has about 60
REFUSALS = {
    "train /nowhere -o new --set nonsense=1": 800,
    "train /nowhere -o new --model /nowhere": 800,
    "generate /nowhere <a> -o new": 600,
    "generate /nowhere <a> -o new --control canny=/nowhere": 600,
    "generate /nowhere <a> -o new --style /nowhere --style-checkout /nowhere": 600,
    "export /nowhere -o new": 600,
    "merge /nowhere /nowhere -o new": 600,
    "transfer /nowhere a.png b.png -o new": 600,
    "learning /nowhere -o new.png": 600,
    "inspect /nowhere": 600,
    "pair /nowhere": 800,
    "masks /nowhere --model grabcut": 800,
    "mesh /nowhere -o new.glb": 800,
    "mesh /nowhere -o new.glb --backend trellis-2": 800,
    "bench run /nowhere -o new": 800,
    "bench run /nowhere -o new --workers 0": 800,
    "bench status /nowhere -o new": 800,
    "study make /nowhere -o new": 800,
    "study serve /nowhere": 800,
    "studio /dev/null": 950,
}


def test_every_name_is_what_it_says_and_no_module_stands_in_its_way() -> None:
    subprocess.run([sys.executable, "-c", CODE.format(names=", ".join(magictailor.__all__))], check=True)


def imported(command: str) -> tuple[int, list[str], int]:
    """Exit code of a command, and which heavy modules and how many modules it has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, *command.split()], capture_output=True, text=True, check=False
    )
    number, *heavy = done.stderr.splitlines()[-1].split()
    return done.returncode, heavy, int(number)


@pytest.mark.parametrize("command", ["--help", "--version", "train --help"])
def test_help_imports_little(command: str) -> None:
    code, heavy, number = imported(command)
    assert (code, heavy) == (0, [])
    assert number < HELP


@pytest.mark.parametrize(("command", "most"), REFUSALS.items())
def test_a_refusal_imports_no_library_that_takes_seconds(command: str, most: int) -> None:
    code, heavy, number = imported(command)
    assert (code, heavy) == (2, [])
    assert number < most
