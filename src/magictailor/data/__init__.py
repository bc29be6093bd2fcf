"""Reading a pair: samples of reference images with their masks."""

from magictailor.data.images import fit_square, load_image
from magictailor.data.masks import Reference
from magictailor.data.overview import describe, overview, remarks
from magictailor.data.pairs import Pair, Sample, read_pair

__all__ = [
    "Pair",
    "Reference",
    "Sample",
    "describe",
    "fit_square",
    "load_image",
    "overview",
    "read_pair",
    "remarks",
]
