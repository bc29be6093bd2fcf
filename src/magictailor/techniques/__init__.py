"""The paper's techniques, each equation one small function."""
