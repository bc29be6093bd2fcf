"""Table 2 of the paper: what people chose there, in percent (third version of arXiv 2410.13370)."""

QUESTIONS = ("text", "identity", "quality")
ANSWERS = 3180
SHARES: dict[str, tuple[float, float, float]] = {
    "textual-inversion": (5.8, 2.5, 5.2),
    "dreambooth": (15.3, 14.7, 12.5),
    "custom-diffusion": (7.1, 7.7, 9.8),
    "break-a-scene": (10.8, 12.1, 22.8),
    "clic": (4.5, 5.1, 6.2),
    "magictailor": (56.5, 57.9, 43.4),
}


def published(method: str, question: str) -> float | None:
    """The paper's share in percent, of six methods; None if it has none."""
    return SHARES[method][QUESTIONS.index(question)] if method in SHARES and question in QUESTIONS else None
