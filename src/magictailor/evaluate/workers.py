"""How many work on a bench, and where. Needs no torch."""

import os
from dataclasses import dataclass

from magictailor.common.errors import InputError


@dataclass(frozen=True)
class Workers:
    """Who does the units.

    count: processes of this machine; 1: only this process. ray: the address of a Ray cluster; "local" starts one here.
    threads: of the CPU for each unit; None: all cores, divided by the number of processes; on Ray, one. With the same
    number, all ways give the same bytes. card_gb: the memory of each card of the cluster, see `expected_resources`.
    """

    count: int = 1
    ray: str | None = None
    threads: int | None = None
    card_gb: float | None = None

    def __post_init__(self) -> None:
        for name, value, most in (("workers", self.count, 1024), ("threads", self.threads, 1024)):
            if value is not None and not 1 <= value <= most:
                raise InputError(f"{value}: out of range", f"choose 1 .. {most}", field=name)
        if self.ray is not None and self.count != 1:
            raise InputError(f"{self.count}: has no effect on a cluster", "leave it out", field="workers")
        if self.card_gb is not None and not 0 < self.card_gb < 10_000:
            raise InputError(f"{self.card_gb}: out of range", "choose for instance 80", field="card_gb")

    @property
    def unit_threads(self) -> int | None:
        if self.threads is not None or (self.count == 1 and self.ray is None):
            return self.threads
        return 1 if self.ray is not None else max(1, (os.cpu_count() or 1) // self.count)
