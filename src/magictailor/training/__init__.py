"""Training: rows, batches, the step, the loop, checkpoints, and what a run trains."""
