"""The package's names, imported as a user does: in a fresh interpreter."""

import subprocess
import sys

import magictailor

CODE = """
import magictailor
from magictailor import {names}
import types
assert not [n for n in magictailor.__all__ if isinstance(getattr(magictailor, n), types.ModuleType)]
"""


def test_every_name_is_what_it_says_and_no_module_stands_in_its_way() -> None:
    subprocess.run([sys.executable, "-c", CODE.format(names=", ".join(magictailor.__all__))], check=True)
