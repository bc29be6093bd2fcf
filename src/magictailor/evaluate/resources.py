"""What a unit is expected to take of a machine: cores, a share of a card, memory."""

from dataclasses import dataclass

import torch

from magictailor.backbones import Backbone
from magictailor.backbones.presets import CARD_TOLERANCE, GIGABYTE
from magictailor.common.errors import InputError

EMBEDDED_GB = 2.0  # of a process that trains, generates or scores on the embedded base; 1.1 measured
ROOMY_GB = 24.0  # where no preset limits the memory


@dataclass(frozen=True)
class Resources:
    """``memory``: bytes of the machine's. A card's memory is shared by ``card``: two units of 0.5 work on one card."""

    cores: int = 1
    card: float = 0.0
    memory: int = 0

    def fitting(self, node: dict[str, float]) -> int:
        """The number of units that fit on a node with these resources, as Ray names them."""
        wanted = {"CPU": self.cores, "GPU": self.card, "memory": self.memory}
        return int(min(node.get(name, 0.0) / amount + 1e-6 for name, amount in wanted.items() if amount))

    def __str__(self) -> str:
        card = f", {self.card:g} of a GPU" if self.card else ""
        return f"{self.cores} core{'s' * (self.cores != 1)}{card}, {self.memory / GIGABYTE:g} GB of memory"


def _gigabytes(backbone: Backbone) -> float:
    if backbone.family.startswith("embedded"):
        return EMBEDDED_GB
    name = backbone.runtime.preset.name
    return float(name.removesuffix("gb")) if name.endswith("gb") else ROOMY_GB


def expected_resources(backbone: Backbone, threads: int | None, card_gb: float | None) -> Resources:
    """By the preset of the loaded model.

    Args:
        threads: of the CPU; None: one.
        card_gb: the memory of each card of the cluster; None: this machine's card, if it has one.

    Raises:
        InputError: the preset does not fit on the card.
    """
    gigabytes = _gigabytes(backbone)
    if card_gb is None and torch.cuda.is_available() and backbone.device.type == "cuda":
        card_gb = torch.cuda.get_device_properties(backbone.device).total_memory / GIGABYTE
    if card_gb is not None and gigabytes > card_gb * CARD_TOLERANCE:
        raise InputError(f"{card_gb:g}: a unit is expected to take {gigabytes:g} GB", "choose a smaller --preset", field="card_gb")  # fmt: skip
    share = 0.0 if card_gb is None else min(1.0, round(gigabytes / card_gb, 2))
    return Resources(threads or 1, share, int(gigabytes * GIGABYTE))
