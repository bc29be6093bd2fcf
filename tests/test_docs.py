"""The docs and the program say the same."""

import re
from pathlib import Path

import typer

from magictailor.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
TEXT = README + "".join(p.read_text("utf-8") for p in (ROOT / "docs").rglob("*.md"))


def commands(group: typer.Typer, before: str = "magictailor") -> list[str]:
    """Every command, as it is typed."""
    own = [f"{before} {c.name or (c.callback.__name__ if c.callback else '')}" for c in group.registered_commands]
    below = []
    for g in group.registered_groups:
        name = g.name if isinstance(g.name, str) else ""  # a group without a name adds its commands to this one
        below += commands(g.typer_instance or app, f"{before} {name}".strip())
    return own + below


def test_every_command_is_documented() -> None:
    named = commands(app)
    assert len(named) >= 6
    assert [c for c in named if c not in TEXT] == []


def test_every_documented_command_exists() -> None:
    known = {c.split()[1] for c in commands(app)}
    typed = set(re.findall(r"`magictailor ([a-z]+)", TEXT))
    assert typed
    assert typed <= known


def test_every_linked_file_exists() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_readme_has_the_two_commands_as_the_only_code_blocks_there() -> None:
    for heading in ("Try it", "Test it"):
        section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        assert section.count("```") == 2, heading
