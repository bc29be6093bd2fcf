"""The methods: each a function from a backbone's defaults to a recipe."""

from collections.abc import Callable

from magictailor.backbones.contract import Defaults
from magictailor.methods.magictailor import magictailor, magictailor_reference, plain_lora
from magictailor.recipe import Recipe

METHODS: dict[str, Callable[[Defaults], Recipe]] = {
    "magictailor": magictailor,
    "magictailor-reference": magictailor_reference,
    "plain-lora": plain_lora,
}
