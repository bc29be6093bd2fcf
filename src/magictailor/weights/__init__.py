"""Shipped weights: the embedded bases and a ControlNet as folders in diffusers format, and the world's judge.

`magictailor world train`, `train-control` and `train-judge` make them.
"""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"  # a U-Net
BASES = {"embedded": EMBEDDED, "embedded-dit": Path(__file__).parent / "embedded-dit"}  # by what a model is called
JUDGE = Path(__file__).parent / "judge.safetensors"
CONTROL = Path(__file__).parent / "control-lines"
