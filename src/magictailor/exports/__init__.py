"""Exports of a run to other tools: one LoRA representation, and a table of names for each tool."""

from magictailor.exports.inspection import Contents, inspect
from magictailor.exports.writing import FORMATS, export

__all__ = ["FORMATS", "Contents", "export", "inspect"]
