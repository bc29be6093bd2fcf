"""Concepts and components as RGBA pixels: DiceBear's styles, changed so that each component has its own colour."""

import io
import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from numpy.typing import NDArray
from PIL import Image

from magictailor.world.catalog import CATALOG
from magictailor.world.scene import Color, Component, Concept

RGBA = NDArray[np.uint8]
LIGHT, DARK = "#f1f3f5", "#26201a"
NOTHING = "#ffffff00"
COVERING = ("hair", "hat")  # kinds that cover the head they sit on

# Parts get their own colour instead of their owner's or a fixed one: style, part, variants (empty: all), and the new
# colour for each old one.
RECOLORED: tuple[tuple[str, str, tuple[str, ...], dict[str, str]], ...] = (
    ("personas", "hair", ("beanie",), {"#E15C66": "hat"}),
    ("personas", "hair", ("cap",), {"#F29C65": "hat"}),
    ("voxel-art", "outfit", ("coat", "dress", "suit"), {"shirt": LIGHT, "jacket": "shirt"}),
    ("voxel-art", "outfit", ("jacket", "checker"), {"jacket": LIGHT}),
    ("voxel-art", "beard", (), {"hair": "beard"}),
    ("voxel-art", "eyebrows", (), {"hair": DARK}),
    ("voxel-art", "glasses", (), {"#26201a": "glasses", "#66d9e8": "glasses"}),
    ("voxel-bot", "top", (), {"accent": "top", "glow": LIGHT}),
    ("voxel-bot", "chest", ("buttons", "screen", "dial"), {"screen": "chest", "#ff6b6b": LIGHT, "glow": LIGHT}),
    ("voxel-bot", "chest", ("heart", "slot"), {"glow": "chest", "#ff6b6b": "chest"}),
)


@dataclass(frozen=True)
class Window:
    """The square of a canvas that fills the frame: its upper left corner and its side, in the canvas's units."""

    x: float
    y: float
    side: float


def _recolor(node: Any, colors: Mapping[str, str]) -> Any:
    """A piece of a style's definition with its colours exchanged."""
    if isinstance(node, list):
        return [_recolor(v, colors) for v in node]
    reference = isinstance(node, dict) and node.get("type") == "color"
    old = node["name"] if reference else node
    if isinstance(old, str) and old in colors:
        new = colors[old]
        return new if new.startswith("#") else {"type": "color", "name": new}
    return {k: _recolor(v, colors) for k, v in node.items()} if isinstance(node, dict) else node


def _holds(node: Any, part: str, components: Mapping[str, Any]) -> bool:
    """Whether an element is the part, or contains it at any depth."""
    if node.get("type") == "component":
        if node["name"] == part:
            return True
        variants = components[node["name"]].get("variants", {}).values()
        return any(_holds(e, part, components) for v in variants for e in v["elements"])
    return any(_holds(child, part, components) for child in node.get("children", ()))


def _keep_only(node: Any, part: str, components: dict[str, Any]) -> None:
    """Remove from a container (a canvas, a variant, a group) every element that does not hold the part."""
    name = "elements" if "elements" in node else "children"
    node[name] = [child for child in node.get(name, ()) if _holds(child, part, components)]
    for child in node[name]:
        if child.get("type") != "component":
            _keep_only(child, part, components)
        elif child["name"] != part:
            for variant in components[child["name"]]["variants"].values():
                _keep_only(variant, part, components)


@cache
def _definition(name: str) -> dict[str, Any]:
    definition: dict[str, Any] = json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8"))
    for style, part, variants, colors in RECOLORED:
        if style == name:
            own = definition["components"][part]["variants"]
            for variant in variants or tuple(own):
                own[variant] = _recolor(own[variant], colors)
            for new in colors.values():
                if not new.startswith("#"):
                    definition["colors"].setdefault(new, {"values": ["#000000"]})
    _dim(definition)
    return definition


def _dim(node: Any) -> None:
    """Make overlay highlights fainter: without overlay blending they turn skin and hair gray."""
    if isinstance(node, list):
        for child in node:
            _dim(child)
    elif isinstance(node, dict):
        if "overlay" in str(node.get("style", "")) and "opacity" in node:
            node["opacity"] = f"{0.35 * float(node['opacity']):.3f}"
        for child in node.values():
            _dim(child)


@cache
def _style(name: str, only: str | None, scaled: str | None, size: float) -> Style:
    """The style; with ``only``, just that part; with ``scaled``, that part larger or smaller by ``size``."""
    definition = deepcopy(_definition(name))
    if only is not None:
        _keep_only(definition["canvas"], only, definition["components"])
    if scaled is not None:
        definition["components"][scaled]["scale"] = {"min": size, "max": size}
    # Validating a definition takes seconds, and a test validates these: create an empty style, then fill it.
    style = Style({"canvas": {"width": 1, "height": 1, "elements": []}})
    style._data = definition
    return style


def canvas(category: str) -> float:
    """The side of the category's canvas, in its own units."""
    return float(_definition(CATALOG[category].style)["canvas"]["width"])


def _set_part(options: dict[str, Any], part: str, variant: str) -> None:
    options[f"{part}Probability"] = 100 if variant else 0
    if variant:
        options[f"{part}Variant"] = [variant]


def _set_component(options: dict[str, Any], component: Component) -> None:
    _set_part(options, component.spec.part, component.variant)
    if component.spec.color is not None and component.color is not None:
        options[f"{component.spec.color}Color"] = [component.color.hex]


def _options(concept: Concept) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for kind in concept.spec.kinds:
        _set_part(options, kind.part, kind.absent or "")
    for part, variant in concept.identity:
        _set_part(options, part, variant)
    colors: tuple[tuple[str, Color], ...] = ((concept.spec.body, concept.color), *concept.tints)
    options |= {f"{name}Color": [color.hex] for name, color in colors}
    for component in concept.components:
        if component.category == concept.category:
            _set_component(options, component)
    return options


def _rasterise(style: Style, options: Mapping[str, Any], window: Window, mirrored: bool, size: int) -> RGBA:
    extra = {"seed": "", "backgroundColor": [NOTHING], "flip": "horizontal" if mirrored else "none"}
    svg = Avatar(style, {**options, **extra}).to_string()
    box = f'viewBox="{window.x:.4f} {window.y:.4f} {window.side:.4f} {window.side:.4f}" width="{size}" height="{size}"'
    svg = re.sub(r'viewBox="[^"]*"', box, svg, count=1)
    # The canvas clips parts that are larger than itself; widen the clip path, so that the window shows them.
    svg = re.sub(
        r'(<clipPath id="clip-[^"]*">)<rect [^>]*>', r'\1<rect x="-2000" y="-2000" width="4000" height="4000"/>', svg
    )
    return np.asarray(Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=svg))).convert("RGBA"))


def render_component(component: Component, window: Window, mirrored: bool, size: int) -> RGBA:
    """The component alone within the window, uint8 [size, size, 4]."""
    options: dict[str, Any] = {}
    _set_component(options, component)
    spec = CATALOG[component.category]
    scaled = component.spec.part if component.size != 1 else None
    for part, variants in spec.identity.items():  # a part that sits on another one needs its position
        if part != component.spec.part:
            _set_part(options, part, variants[0])
    style = _style(spec.style, component.spec.part, scaled, component.size)
    return _rasterise(style, options, window, mirrored, size)


def render_concept(concept: Concept, window: Window, mirrored: bool, size: int) -> RGBA:
    """The concept with its components within the window, uint8 [size, size, 4]."""
    sized = [c for c in concept.components if c.size != 1 and c.category == concept.category]
    assert len(sized) <= 1
    scaled, factor = (sized[0].spec.part, sized[0].size) if sized else (None, 1.0)
    layer = _rasterise(_style(concept.spec.style, None, scaled, factor), _options(concept), window, mirrored, size)
    for component in concept.components:
        if component.category != concept.category:
            layer = alpha_over(
                render_component(component, _transplant_window(concept, component, window, mirrored), mirrored, size),
                layer,
            )
    return layer


def alpha_over(upper: RGBA, lower: RGBA) -> RGBA:
    """One layer composited over another."""
    return np.asarray(Image.alpha_composite(Image.fromarray(lower), Image.fromarray(upper)))


Box = tuple[float, float, float, float]


def _extent(layer: RGBA, window: Window) -> Box:
    """Left, top, right and bottom of the opaque pixels, in the canvas's units; the whole window if there are none."""
    rows, columns = np.nonzero(layer[..., 3] > 100)
    if not len(rows):
        return window.x, window.y, window.x + window.side, window.y + window.side
    unit = window.side / len(layer)
    return (
        window.x + float(columns.min()) * unit, window.y + float(rows.min()) * unit,
        window.x + float(columns.max() + 1) * unit, window.y + float(rows.max() + 1) * unit,
    )  # fmt: skip


def _wide_window(category: str) -> Window:
    """The whole canvas with a margin of a quarter on each side."""
    side = canvas(category)
    return Window(-side / 4, -side / 4, 1.5 * side)


@cache
def component_extent(component: Component, mirrored: bool) -> Box:
    """The box of the component alone on its canvas."""
    window = _wide_window(component.category)
    return _extent(render_component(component, window, mirrored, 96), window)


@cache
def head_box(concept: Concept, mirrored: bool) -> Box:
    """The box of the concept without components, with the left and right ends of its upper part, the head."""
    window = _wide_window(concept.category)
    layer = render_concept(
        Concept(concept.category, concept.color, concept.identity, concept.tints, ()), window, mirrored, 96
    )
    _left, top, _right, bottom = _extent(layer, window)
    rows = slice(round((top - window.y) / window.side * 96), None)
    upper = layer[rows][: max(4, round((bottom - top) / window.side * 96 * 0.4))]
    columns = np.nonzero((upper[..., 3] > 100).any(0))[0]
    unit = window.side / 96
    return window.x + float(columns.min()) * unit, top, window.x + float(columns.max() + 1) * unit, bottom


def _transplant_window(concept: Concept, component: Component, window: Window, mirrored: bool) -> Window:
    """The window on the canvas of another category's component that puts it on top of this concept's head, at its width."""
    own = component_extent(component, mirrored)
    left, top, right, _ = head_box(concept, mirrored)
    width = right - left
    # Units of the concept per unit of the component: as wide as the head, and not higher than that, or half of that.
    scale = min(
        0.95 * width / (own[2] - own[0]), (1.0 if component.kind in COVERING else 0.5) * width / (own[3] - own[1])
    )
    # Hair and hats reach down to the brow, horns and antennas stand on the skull.
    sink = (0.45 if component.kind in COVERING else 0.1) * (own[3] - own[1])
    x = (left + right) / 2 - scale * (own[0] + own[2]) / 2
    y = top - scale * (own[3] - sink)
    return Window((window.x - x) / scale, (window.y - y) / scale, window.side / scale)
