"""The paper's tables, figures and claims (third version): the methods of each, in their order."""

from collections.abc import Mapping
from dataclasses import dataclass

from magictailor.methods import COMPARED, ENTRIES, REFERENCE_ONLY

OURS = "magictailor"


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper. ``rows``: titles by method."""

    title: str
    rows: Mapping[str, str]


@dataclass(frozen=True)
class Sweep:
    """A figure of curves over one setting. ``values``: the setting by method."""

    title: str
    setting: str
    values: Mapping[str, float]
    scale: str = "linear"


@dataclass(frozen=True)
class Sheet:
    """A figure of images: pairs in rows; methods, or a study's prompts by one method, in columns.

    ``pairs``: endings of the pairs' names, separated by spaces; all pairs if empty.
    """

    title: str
    methods: tuple[str, ...]
    study: str | None = None
    pairs: str = ""


@dataclass(frozen=True)
class Claim:
    """The paper claims that ``better`` is better than ``worse`` in this metric; the judge's metrics replace the paper's own."""

    text: str
    better: str
    worse: str
    metric: str


def _titles(*methods: str) -> dict[str, str]:
    summaries = {name: entry.summary for name, entry in ENTRIES.items()}
    summaries[REFERENCE_ONLY] = "no training: the model is given one photo of each sample"
    return {method: "MagicTailor" if method == OURS else summaries[method] for method in methods}


TABLES: dict[str, PaperTable] = {
    "1": PaperTable("methods by automatic metrics", dict(zip(COMPARED, COMPARED, strict=True))),
    "3": PaperTable("the two techniques", _titles("without-both", "without-ds-bal", "without-dm-deg", OURS)),
    "5": PaperTable(
        "degradation",
        _titles("mask-out", "fixed-0.4", "fixed-0.6", "fixed-0.8", "ascending", "descending", "gamma-8", "gamma-16", "gamma-64", OURS),
    ),
    "6": PaperTable("the regulariser of DS-Bal", _titles("frozen", "last-step", "decay-0.5", "decay-0.9", OURS)),
    "7": PaperTable("warm-up", _titles("no-warm-up", OURS)),
}  # fmt: skip
FIGURES: dict[str, Sweep | Sheet] = {
    "4": Sheet("noise under fixed and dynamic intensity", ("fixed-0.5", OURS)),
    "8a": Sweep("weight of the regulariser", "lambda_pres", {OURS: 0.2, **{f"pres-{v:g}": v for v in (0.4, 0.6, 0.8, 1.0)}}),
    "8b": Sweep("weight of the attention loss", "lambda_attn", {OURS: 0.01, **{f"attn-{v:g}": v for v in (0.001, 0.005, 0.05)}}, "log"),
    "9": Sweep("reference images of a sample", "images", {"references-1": 1, "references-2": 2, OURS: 3}),
    "12": Sheet("difficult pairs", tuple(COMPARED), pairs="-size -category"),
    "16": Sheet("linking words", (OURS,), study="linking-words"),
    **{f"table-{number}": Sheet(f"table {number} in images", tuple(table.rows)) for number, table in TABLES.items()},
}  # fmt: skip
CLAIMS: tuple[Claim, ...] = (
    *(Claim(f"keeps identities better than {m} (table 1)", OURS, m, "identity") for m in COMPARED if m != OURS),
    *(Claim(f"follows the text better than {m} (table 1)", OURS, m, "text") for m in COMPARED if m != OURS),
    Claim("both techniques together are better than neither (table 3)", OURS, "without-both", "identity"),
    Claim("DM-Deg alone is better than neither (table 3)", "without-ds-bal", "without-both", "identity"),
    Claim("DS-Bal alone is better than neither (table 3)", "without-dm-deg", "without-both", "identity"),
    Claim("DM-Deg improves on DS-Bal alone (table 3)", OURS, "without-dm-deg", "identity"),
    Claim("DS-Bal improves on DM-Deg alone (table 3)", OURS, "without-ds-bal", "identity"),
    Claim("DM-Deg reduces pollution", OURS, "without-dm-deg", "pollution"),
    Claim("DS-Bal reduces imbalance", OURS, "without-ds-bal", "imbalance"),
    Claim("noise is better than masking out (table 5)", OURS, "mask-out", "identity"),
    Claim("dynamic intensity is better than 0.4 throughout (table 5)", OURS, "fixed-0.4", "identity"),
    Claim("a moving regulariser is better than one frozen after the warm-up (table 6)", OURS, "frozen", "identity"),
    Claim("the warm-up helps (table 7)", OURS, "no-warm-up", "identity"),
)

# The rows of its ablations that no claim above has; in a table of their own, since each row makes the others harder to show.
_TESTED = {claim.worse for claim in CLAIMS}
ABLATION_CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(f"its own choice is better than {m} (table {number})", OURS, m, "identity")
        for number in ("5", "6")
        for m in TABLES[number].rows
        if m != OURS and m not in _TESTED
    ),
    *(
        Claim(f"its own choice is better than {m} (figure {number})", OURS, m, "identity")
        for number, sweep in FIGURES.items()
        if isinstance(sweep, Sweep)
        for m in sweep.values
        if m != OURS
    ),
)

PAPER_METRICS = ("CLIP-T", "CLIP-I", "DINO", "DreamSim")  # as `published` lists them; DreamSim is an error
OF_CLAIM = {"identity": PAPER_METRICS[1:], "text": PAPER_METRICS[:1]}  # the paper's metrics for one of ours


def published(method: str) -> str:
    """The paper's values for a method; empty if it prints none."""
    return ENTRIES[method].published if method in ENTRIES else ""


def _published(method: str) -> list[float] | None:
    text = published(method)
    return [float(value) for value in text.split(" / ")] if text else None


def paper_shares(claim: Claim) -> dict[str, float]:
    """The paper's effect for a claim by its metrics, as shares of the worse method's error; empty if it prints none.

    The error of a similarity is 1 minus it.
    """
    better, worse = _published(claim.better), _published(claim.worse)
    if better is None or worse is None:
        return {}
    shares = {}
    for name, high, low in zip(PAPER_METRICS, better, worse, strict=True):
        if name in OF_CLAIM.get(claim.metric, ()):
            shares[name] = (low - high) / low if name == "DreamSim" else (high - low) / (1 - low)
    return shares
