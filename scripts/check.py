"""The one gate: lint, format, strict types, import order, tests. Stops at the first that fails."""

import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
GATES = (
    [sys.executable, "-m", "ruff", "check", "."],
    [sys.executable, "-m", "ruff", "format", "--check", "."],
    [sys.executable, "-m", "mypy"],
    [str(BIN / "lint-imports")],
    [sys.executable, "-m", "pytest", *sys.argv[1:]],
)

for gate in GATES:
    print("$", *gate[1:] if gate[0] == sys.executable else gate, flush=True)
    code = subprocess.run(gate, cwd=Path(__file__).parent.parent, check=False).returncode
    if code:
        sys.exit(code)
