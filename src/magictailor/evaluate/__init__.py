"""Benches: pairs x methods x prompts x seeds, trained, generated, scored, and reported in tables with their uncertainty."""
