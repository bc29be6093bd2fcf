"""What many folders use: errors, files, tensors, randomness, processes, pictures and plots."""
