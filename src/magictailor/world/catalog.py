"""The categories, kinds of component and variants of the world, and their words in captions.

The art is DiceBear's (`art.py`): a category is one of its styles, a kind of component is one of the style's parts, or
some variants of it. Held-out variants never occur in the base's training; they are as new to it as a user's photos.
"""

from collections.abc import Mapping
from dataclasses import dataclass

RGB = tuple[int, int, int]

PALETTE: dict[str, RGB] = {
    "red": (214, 40, 44),
    "orange": (244, 128, 32),
    "yellow": (250, 210, 48),
    "green": (56, 164, 72),
    "blue": (44, 98, 216),
    "purple": (134, 62, 184),
    "pink": (244, 132, 186),
    "brown": (124, 78, 46),
    "white": (244, 244, 240),
    "black": (40, 40, 46),
}
SKINS: dict[str, RGB] = {
    "pale": (255, 224, 198),
    "tan": (224, 172, 126),
    "brown": (164, 104, 66),
    "dark": (96, 62, 44),
}


@dataclass(frozen=True)
class Kind:
    """A kind of component of one category.

    ``part``: the style's part; kinds with the same part exclude each other. ``variants``: the part's variants with their
    words in captions. ``color``: the name of the component's colour in the style, None where the art fixes it. ``absent``:
    the variant of the part that shows nothing, None where the part can be left out. ``worn``: the fraction of the category
    that has one. ``bare``: captions may omit the kind (``clown nose``, not ``clown nose accessory``).
    """

    name: str
    part: str
    variants: Mapping[str, str]
    held_out: tuple[str, ...] = ()
    color: str | None = None
    absent: str | None = None
    worn: float = 1.0
    bare: bool = False

    @property
    def trained(self) -> tuple[str, ...]:
        return tuple(v for v in self.variants if v not in self.held_out)


@dataclass(frozen=True)
class Category:
    """A category: one style of the art.

    ``body``: the style's colour that captions name; skins have their own words. ``kinds``: its kinds of component, the most
    prominent one first. ``identity``: parts that belong to a concept's identity and that no caption names, with their
    variants ("" for none). ``tints``: further colours of the identity. ``scale``: of the canvas in the frame. ``bust``: it
    is cut at the frame's lower edge.
    """

    name: str
    style: str
    body: str
    kinds: tuple[Kind, ...]
    identity: Mapping[str, tuple[str, ...]]
    tints: tuple[str, ...] = ()
    skin: bool = False
    scale: float = 1.0
    bust: bool = False

    def kind(self, name: str) -> Kind:
        return next(k for k in self.kinds if k.name == name)


def _words(**variants: str) -> dict[str, str]:
    """Words by variant, from variants by word: ``_words(bun="bunHair froBun")``. An underscore in a word is a space."""
    return {v: word.replace("_", " ") for word, names in variants.items() for v in names.split()}


def _numbered(prefix: str, first: int, last: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i:02d}" for i in range(first, last + 1))


PERSON = Category(
    "person", "personas", "skin",
    (
        Kind(
            "hair", "hair",
            _words(
                afro="curly", bob="bobBangs bobCut", bun="bunUndercut curlyBun straightBun", balding="balding",
                curly="curlyHighTop", long="long extraLong", mohawk="mohawk", pigtails="pigtails",
                short="fade shortCombover shortComboverChops", swept="sideShave",
            ),
            ("bobCut", "curlyBun", "shortComboverChops"), "hair", "bald", 0.85,
        ),
        Kind("hat", "hair", _words(beanie="beanie", cap="cap"), (), "hat", "bald", 0.15),
        Kind(
            "shirt", "clothes", _words(checkered="checkered", round="rounded", narrow="small", plain="squared"),
            ("small",), "clothing",
        ),
        Kind(
            "beard", "facialHair", _words(full="beardMustache", goatee="goatee", mustache="pyramid", walrus="walrus"),
            ("walrus",), "facialHair", None, 0.25,
        ),
        Kind("glasses", "eyes", _words(square="glasses", dark="sunglasses"), worn=0.35),
    ),
    {"mouth": ("bigSmile", "frown", "lips", "smile", "smirk", "surprise"), "nose": ("mediumRound", "smallRound", "wrinkles"),
     "eyes": ("happy", "open", "sleep", "wink")},
    skin=True, scale=1.16, bust=True,
)  # fmt: skip

KID = Category(
    "kid", "big-smile", "skin",
    (
        Kind(
            "hair", "hair",
            _words(
                bangs="bangs", bowl="bowlCutHair", braided="braids", bun="bunHair froBun", curly="curlyShortHair",
                long="straightHair", mohawk="mohawk", buzz="shavedHead", short="shortHair", swept="halfShavedHead",
                wavy="curlyBob wavyBob",
            ),
            ("froBun", "curlyBob"), "hair",
        ),
        Kind(
            "accessory", "accessories",
            _words(
                cat_ears="catEars", clown_nose="clownNose", face_mask="faceMask", round_glasses="glasses",
                mustache="mustache", crown="sailormoonCrown", sleep_mask="sleepMask", sunglasses="sunglasses",
            ),
            ("sleepMask",), None, None, 0.45, True,
        ),
    ),
    {"eyes": ("angry", "cheery", "confused", "normal", "sad", "sleepy", "starstruck", "winking"),
     "mouth": ("awkwardSmile", "braces", "gapSmile", "kawaii", "openSad", "openedSmile", "teethSmile", "unimpressed"),
     "head": ("base",)},
    skin=True, scale=0.94,
)  # fmt: skip

FIGURE = Category(
    "figure", "voxel-art", "skin",
    (
        Kind(
            "hair", "top",
            _words(
                short="short", spiky="spiky", bowl="bowl", swept="sideSwept halfShaved", curly="curly", mohawk="mohawk",
                buns="buns", bun="ponytail", bob="bob", long="shoulderLength longStraight partedLong", wavy="longWavy",
                braided="braids", pigtails="twinTails", afro="afro",
            ),
            ("halfShaved", "partedLong", "longWavy"), "hair", None, 0.75,
        ),
        Kind(
            "hat", "top", _words(cap="cap", beanie="beanie", cat="animalEars", bunny="bunnyEars"),
            ("bunnyEars",), "hat", None, 0.25,
        ),
        Kind(
            "outfit", "outfit",
            _words(
                plain="plain", striped="stripes", jacket="jacket", checkered="checker", overalls="overalls",
                hoodie="hoodie", tie="tie", coat="coat", dress="dress", suit="suit",
            ),
            ("overalls", "suit"), "shirt",
        ),
        Kind(
            "glasses", "glasses", _words(round="round", square="square", dark="shades", pointed="cat", visor="visor"),
            ("square",), "glasses", None, 0.3,
        ),
        Kind("beard", "beard", _words(full="full", mustache="mustache", goatee="goatee"), (), "beard", None, 0.2),
    ),
    {"mouth": ("smile", "bigSmile", "flat", "ooh", "tongue", "smirk", "laugh", "wideSmile", "frown", "grin"),
     "cheeks": ("", "blush", "pixel", "freckles"),
     "eyes": ("open", "soft", "happy", "sleepy", "side", "closed", "wide", "star"),
     "eyebrows": ("", "flat", "raised", "angry", "soft"), "nose": ("block", "wide", "small", "tall")},
    tints=("pants", "shoes"), skin=True, scale=1.0,
)  # fmt: skip

ROBOT = Category(
    "robot", "voxel-bot", "body",
    (
        Kind(
            "antenna", "top",
            _words(
                single="antenna", double="twin", dish="dish", fin="fin", lights="lightbar", studded="studs", siren="siren",
            ),
            ("twin",), "top", None, 0.9,
        ),
        Kind(
            "panel", "chest", _words(button="buttons", screen="screen", heart="heart", dial="dial", slot="slot"),
            ("dial",), "chest", None, 0.8,
        ),
    ),
    {"eyes": ("round", "square", "visor", "cyclops", "happy", "sleepy", "plus"),
     "mouth": ("grill", "speaker", "line", "smile", "zigzag")},
    tints=("accent", "glow"), scale=1.08,
)  # fmt: skip

MONSTER = Category(
    "monster", "critters", "body",
    (
        Kind(
            "horns", "top",
            _words(curved="horns", straight="hornsIn", short="hornsSmall", single="spike", spiky="spikes"),
            ("hornsIn",), "accent", None, 0.35,
        ),
        Kind("ears", "top", _words(round="earsRound", pointed="earsPointy", droopy="earsDroop"), ("earsDroop",), "accent", None, 0.25),
        Kind("antenna", "top", _words(single="antenna bobble", double="antennae", stubby="nub"), ("bobble",), "accent", None, 0.2),
        Kind("crest", "top", _words(fin="fin", crown="crown", leaf="sprout"), (), "accent", None, 0.2),
    ),
    {"body": ("dome", "block", "tower", "chimney", "squat", "blob", "round", "tilt", "lean", "peak", "bell", "wedge",
              "wedgeInv", "steps"),
     "pattern": ("", "", "belly", "dots", "bar", "bars", "spot", "stripes", "chevron", "ring"),
     "cheeks": ("", "", "blush", "blushBig", "freckles"),
     "eyes": ("round", "dots", "bigPupils", "sideeye", "inward", "mono", "uneven", "trio", "threeRow", "four", "happy",
              "closedLine", "wink", "squint", "wide", "sleepy", "angry", "monoSleepy", "close"),
     "mouth": ("smile", "tinySmile", "grin", "laugh", "teeth", "ooh", "line", "smirk", "wavy", "catMouth", "zigzag",
               "frown", "sad", "slant", "dot", "open", "tooth", "tongue", "blep")},
    bust=True,
)  # fmt: skip

POT = Category(
    "pot", "sprouts", "pot",
    (
        Kind(
            "plant", "plant",
            _words(
                sprout="sprout", leaf="seedling", cactus="cactus", ball="ball", spiky="succulent", bushy="bush", tall="tall",
                flower="flower", tulip="tulip", palm="palm", grass="grass", budding="buds",
            ),
            ("tulip", "tall"), "plant",
        ),
    ),
    {"pot": ("taper", "cylinder", "bowl", "tub", "round", "bag", "rim"),
     "pattern": ("", "", "band", "dots", "stripes", "chevron", "speckles", "ring"),
     "cheeks": ("", "", "blush", "blushBig", "freckles"),
     "eyes": ("round", "dots", "bigPupils", "sideeye", "happy", "closedLine", "wink", "sleepy", "wide", "close", "angry"),
     "mouth": ("smile", "tinySmile", "grin", "ooh", "line", "catMouth", "tongue", "open", "frown", "wavy", "tooth")},
    tints=("bloom",), scale=1.08, bust=True,
)  # fmt: skip

HERO = Category(
    "hero", "adventurer", "skin",
    (
        Kind(
            "hair", "hair",
            _words(
                bob="long01 long21 long25 long26", wavy="long02 long17 long24 long22", long="long04 long05 long09 long20",
                bangs="long07 short06", bun="long10 long11 long12 short05", buns="long13 long23", pigtails="long14 long15",
                braided="long16", ponytail="long19", flower="long03 long08 long18",
                short="short01 short02 short10 short11 short14", curly="short03 short07 short08 short17 short18",
                buzz="short04 short13", messy="short09", tuft="short12", mohawk="short15", spiky="short16",
            ),
            ("long05", "long12", "long17", "long23", "long26", "short07", "short11"), "hair",
        ),
        Kind(
            "glasses", "glasses", _words(dark="variant01", round="variant02 variant04", small="variant03", pointed="variant05"),
            ("variant04",), "glasses", None, 0.3,
        ),
    ),
    {"head": ("default",), "eyes": _numbered("variant", 1, 26), "eyebrows": _numbered("variant", 1, 15),
     "mouth": _numbered("variant", 1, 30), "details": ("", "", "", "birthmark", "blush", "freckles")},
    skin=True, scale=1.04,
)  # fmt: skip

CATALOG: dict[str, Category] = {c.name: c for c in (PERSON, KID, FIGURE, ROBOT, MONSTER, POT, HERO)}
CATEGORIES = tuple(CATALOG)
KINDS = tuple(dict.fromkeys(k.name for c in CATALOG.values() for k in c.kinds))
CELLS = tuple((c.name, k.name) for c in CATALOG.values() for k in c.kinds)  # the component of a pair has one of these
