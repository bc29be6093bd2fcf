"""Shipped weights: the embedded bases and a ControlNet as folders in diffusers format, an IP-Adapter, and the world's judge.

`magictailor world train`, `train-control`, `train-style` and `train-judge` make them.
"""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"  # a U-Net
TRANSFORMER = Path(__file__).parent / "embedded-dit"  # without an autoencoder: it shares the U-Net's
BASES = {"embedded": EMBEDDED, "embedded-dit": TRANSFORMER}  # by what a model is called
AUTOENCODER = EMBEDDED / "vae"
JUDGE = Path(__file__).parent / "judge.safetensors"
CONTROL = Path(__file__).parent / "control-lines"
STYLE = Path(__file__).parent / "style"
