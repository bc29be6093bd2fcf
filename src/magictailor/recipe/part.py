"""What all parts of a recipe are, and the check of prompts."""

from string import Formatter

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Base of all parts: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def fields_of(template: str) -> list[str] | None:
    """The names between a template's braces; None where it is no template, or has more than names in them."""
    try:
        found = [(name, spec, how) for _, name, spec, how in Formatter().parse(template) if name is not None]
    except ValueError:
        return None
    return [name for name, _, _ in found] if all((spec, how) == ("", None) for _, spec, how in found) else None


def with_the_word(template: str) -> str:
    """Raises ValueError for a prompt without its one {}: the pseudo-word would be in no prompt."""
    names = fields_of(template)
    if names is None or [n for n in names if n != "concept"] != [""] or names.count("concept") > 1:
        raise ValueError("write {} once, where the pseudo-word goes")
    return template
