"""Benches: pairs x methods x prompts x seeds, trained, drawn, scored, and put into tables with their uncertainty."""
