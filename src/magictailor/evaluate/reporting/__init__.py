"""What a bench says: tables with their uncertainty, contrasts, the paper's tables, figures and claims, one page."""
