"""Shipped weights: the embedded base and its ControlNet as folders in diffusers format, and the world's judge.

`magictailor world train`, `train-control` and `train-judge` make them.
"""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"
JUDGE = Path(__file__).parent / "judge.safetensors"
CONTROL = Path(__file__).parent / "control-lines"
