"""The paper's evaluation protocol: its 20 prompts (table 4), by what they ask for."""

CONTEXTS: dict[str, str] = {
    "beach": "on the beach",
    "jungle": "in the jungle",
    "snow": "in the snow",
    "night": "at night",
    "autumn": "in autumn",
    "clouds": "with clouds in the background",
    "flowers": "with flowers in the background",
    "eiffel": "near the Eiffel Tower",
    "water": "on top of water",
    "fuji": "in front of the Mount Fuji",
}
TREATMENTS: dict[str, str] = {
    "watercolor": "watercolor painting",
    "ukiyoe": "Ukiyo-e painting",
    "pixel": "in Pixel Art style",
    "gogh": "in Von Gogh style",
    "comic": "in a comic book",
    "3d": "from 3D rendering",
    "clay": "made of clay",
    "plastic": "made of plastic",
}
VIEWS: dict[str, str] = {"far": "in a far view", "close": "in a close view"}
PROMPTS: dict[str, str] = {**CONTEXTS, **TREATMENTS, **VIEWS}
