"""What the studio knows about its machine, without torch: its name and its NVIDIA cards."""

import platform
import subprocess
from functools import cache
from typing import Any


@cache
def cards() -> tuple[dict[str, Any], ...]:
    """Name and GB of each card, as the driver says."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        rows = [line.rpartition(",") for line in printed.splitlines() if line.strip()]
        return tuple({"name": name.strip(), "gigabytes": round(int(mib) * 2**20 / 1e9, 1)} for name, _, mib in rows)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()


def machine() -> str:
    """A name that is the same as long as the machine is: times on another one say nothing about this one."""
    return ", ".join([platform.node() or "unnamed", *(card["name"] for card in cards())])
