"""What is added to a base for training: LoRA, pseudo-words, the reading of attention, the momentum network."""
