"""From a pair to a finished run: what a step looks at and reads, its losses, the one loop, and what it keeps."""
