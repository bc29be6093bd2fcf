"""Reports of a bench: tables with their uncertainty, contrasts, the paper's tables, figures and claims, an HTML page."""
