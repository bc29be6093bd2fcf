"""Pairs: samples of reference images with their masks."""

from magictailor.data.images import fit_square, load_image
from magictailor.data.masks import ReferenceImage
from magictailor.data.overview import coverage_warnings, describe, overview
from magictailor.data.pairs import Pair, Sample, read_pair

__all__ = [
    "Pair",
    "ReferenceImage",
    "Sample",
    "coverage_warnings",
    "describe",
    "fit_square",
    "load_image",
    "overview",
    "read_pair",
]
