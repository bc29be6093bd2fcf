"""What many folders use: errors, files, tensors, randomness, distributed processes, pictures and plots."""
