"""What all parts of a recipe have in common, and the check of prompt templates."""

from string import Formatter

from pydantic import BaseModel, ConfigDict


class ConfigModel(BaseModel):
    """Base of all settings: frozen; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def fields_of(template: str) -> list[str] | None:
    """The names between a template's braces; None if it is no template, or has formats next to the names."""
    try:
        found = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(template)]
    except ValueError:
        return None
    names = [(name, spec, conversion) for name, spec, conversion in found if name is not None]
    if any((spec, conversion) != ("", None) for _, spec, conversion in names):
        return None
    return [name for name, _, _ in names]


def check_template(template: str) -> str:
    """Raises ValueError for a prompt template without its one ``{}``, where the pseudo-word goes."""
    names = fields_of(template)
    if names is None or [n for n in names if n != "concept"] != [""] or names.count("concept") > 1:
        raise ValueError("write {} once, where the pseudo-word goes")
    return template


def check_optional_template(template: str | None) -> str | None:
    return None if template is None else check_template(template)
