"""Backends whose code needs other versions of torch and transformers: they run in a Python of their own.

Nothing of them is in this package, and nothing of them enters this process: a script is run next to their code, and gives
a mesh back as a file.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from PIL import Image

from magictailor.common.checkouts import check_checkout
from magictailor.common.errors import InputError, RunError
from magictailor.mesh.contract import Backend, import_trimesh
from magictailor.mesh.scripts.run import NOT_INSTALLED, NOT_LOADED

SCRIPTS = Path(__file__).with_name("scripts")
PYTHONS = (".venv/bin/python", ".venv/Scripts/python.exe")  # in a checkout; else this one


class OwnPython(Backend):
    """Checked when it is made, and loaded for each mesh.

    Attributes:
        name: as its authors write it.
        holds: a file or folder of its checkout that no other has.
        script: what runs in its Python.
        usual: the hub's name of its weights, for errors.
        install: what makes its checkout and the Python in it.
    """

    name: ClassVar[str]
    holds: ClassVar[str]
    script: ClassVar[str]
    usual: ClassVar[str]
    install: ClassVar[str]

    def __init__(self, model: str | None, device: str, checkout: str | None) -> None:
        if checkout is None:
            raise InputError(f"{self.name} is not a package", self.install, field="checkout")
        self.checkout = check_checkout(checkout, self.holds, self.name, self.install, "checkout")
        self.model, self.device = model, device

    def mesh(self, picture: Image.Image, seed: int, steps: int | None) -> Any:
        own = [path for name in PYTHONS if (path := self.checkout / name).is_file()]
        with TemporaryDirectory() as name:
            folder = Path(name)
            cutout, output = folder / "picture.png", folder / "mesh.glb"
            request = {
                "script": str(SCRIPTS / self.script), "checkout": str(self.checkout), "model": self.model,
                "device": self.device, "seed": seed, "steps": steps, "picture": str(cutout), "output": str(output),
            }  # fmt: skip
            picture.save(cutout)
            (folder / "request.json").write_text(json.dumps(request), "utf-8")
            command = [own[0] if own else sys.executable, SCRIPTS / "run.py", folder / "request.json"]
            try:
                done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
            except OSError as error:
                raise InputError(f"{command[0]}: {error.strerror}", self.install, field="checkout") from error
            if done.returncode:
                raise self._error(done.returncode, (done.stderr.strip() or "no reason given").splitlines()[-1][:200])
            return import_trimesh().load(output, force="mesh", process=False)

    def _error(self, code: int, reason: str) -> Exception:
        if code == NOT_INSTALLED:
            return InputError(f"{self.name} is not installed ({reason})", self.install, field="checkout")
        if code == NOT_LOADED:
            problem = f"{self.model or self.usual}: cannot be loaded ({reason})"
            return InputError(problem, "check the name and the network", field="model")
        return RunError(f"{self.name} stopped ({reason})")


class InstantMesh(OwnPython):
    """InstantMesh of Tencent ARC."""

    name, holds, script, usual = "InstantMesh", "zero123plus/pipeline.py", "instantmesh.py", "TencentARC/InstantMesh"
    licence = "Apache 2.0, code and weights; Zero123++, which it runs on, has a licence of its own"
    install = "git clone https://github.com/TencentARC/InstantMesh with a Python of its own (see docs/applications.md), then --checkout InstantMesh"


class Trellis2(OwnPython):
    """TRELLIS.2 of Microsoft."""

    name, holds, script, usual = "TRELLIS.2", "trellis2", "trellis2.py", "microsoft/TRELLIS.2-4B"
    licence = "MIT, code and weights; nvdiffrast and DINOv3, which it runs on, have licences of their own"
    install = "git clone --recursive https://github.com/microsoft/TRELLIS.2 with a Python of its own (see docs/applications.md), then --checkout TRELLIS.2"
