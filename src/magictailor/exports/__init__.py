"""Results that load everywhere: one neutral adapter, and a table of names for each tool."""

from magictailor.exports.inspection import Contents, inspect
from magictailor.exports.writing import FORMATS, export

__all__ = ["FORMATS", "Contents", "export", "inspect"]
