"""Training of the embedded base: pictures drawn ahead, then the autoencoder, then the denoiser."""

from magictailor.world.training.run import WorldTraining, train_world

__all__ = ["WorldTraining", "train_world"]
