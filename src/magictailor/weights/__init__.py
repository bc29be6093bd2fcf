"""Shipped weights: the embedded base as a folder in diffusers format, and the world's judge.

`python -m magictailor.world.training` makes the first, `python -m magictailor.world.training.judge` the second.
"""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"
JUDGE = Path(__file__).parent / "judge.safetensors"
