"""First phase of the base's training: the autoencoder, with normalised latents."""

from functools import partial

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from magictailor.common.events import Progress
from magictailor.common.pictures import save_png
from magictailor.common.tensors import read_tensors, write_tensors
from magictailor.world.embedded import new_autoencoder
from magictailor.world.training.autoencoder import encode, held_out_psnr, initialise, normalise, train_autoencoder
from magictailor.world.training.bank import Bank
from magictailor.world.training.examples import Examples
from magictailor.world.training.output import Weights
from magictailor.world.training.rendering import Chunk
from magictailor.world.training.samples import round_trip_sheet
from magictailor.world.training.session import Session
from magictailor.world.training.state import Trainee


def fill(session: Session, bank: Bank, examples: Examples, count: int) -> None:
    """Add images from the bank until there are ``count``; waits for them."""
    while examples.count < count and (chunk := bank.next()) is not None:
        examples.add(chunk, None)
        session.listen(Progress("renders", examples.count, count))


def prepare_autoencoder(session: Session, bank: Bank, examples: Examples, start: Weights | None) -> AutoencoderKL:
    """The frozen autoencoder: of an earlier session, of ``start``, or trained now."""
    path = session.folder / "autoencoder.safetensors"
    torch.manual_seed(session.recipe.seed)
    autoencoder = new_autoencoder()
    initialise(autoencoder)
    if start is not None:
        autoencoder.load_state_dict(start)
    if path.exists():
        autoencoder.load_state_dict(read_tensors(path))
    autoencoder = autoencoder.to(session.device)
    if not path.exists() and session.recipe.trains_autoencoder:
        autoencoder = _train(session, bank, examples, autoencoder)
    write_tensors(path, autoencoder.state_dict())
    return autoencoder.eval().requires_grad_(False)


def _train(session: Session, bank: Bank, examples: Examples, autoencoder: AutoencoderKL) -> AutoencoderKL:
    recipe = session.recipe
    seconds = recipe.autoencoder_share * (session.clock.limit or 0.0)
    fraction_done = session.begin_phase("autoencoder", seconds, recipe.autoencoder_steps)
    trainee = Trainee(
        [autoencoder], session.folder / "autoencoder-state.safetensors", recipe.autoencoder_lr, 0.995, fraction_done,
        warmup=100, decay=0.4, half=recipe.half, moments=session.on_cpu,
    )  # fmt: skip
    if recipe.compile:
        autoencoder.encoder.compile()
        autoencoder.decoder.compile()

    def images() -> Tensor:
        return examples.images[: examples.count]

    def after_step() -> None:
        if session.timed and examples.count + recipe.chunk <= examples.room and bank.ready():
            fill(session, bank, examples, examples.count + 1)
        if session.save_due():
            trainee.save()
            session.clock.save()

    log = partial(session.log, "autoencoder", steps=recipe.autoencoder_steps)
    train_autoencoder(autoencoder, images, trainee, recipe.autoencoder_batch, recipe.seed, after_step, log)
    trainee.save()
    session.record["autoencoder_steps"] = trainee.step
    autoencoder = new_autoencoder()  # one that was never compiled, in single precision
    autoencoder.load_state_dict(trainee.state_dict(0, average=True))
    autoencoder = autoencoder.to(session.device)
    latents = encode(autoencoder, images()[:2048])
    normalise(autoencoder, latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
    return autoencoder


def inspect_autoencoder(session: Session, autoencoder: AutoencoderKL, held_out: Chunk) -> None:
    """Record the quality on held-out renders, and write a sheet of round trips."""
    images = torch.from_numpy(held_out.images)
    session.record["autoencoder_psnr_db"] = psnr = round(held_out_psnr(autoencoder, images), 2)
    session.log("autoencoder held out", 0, {"psnr": psnr})
    save_png(round_trip_sheet(autoencoder, images[:8]), session.folder / "autoencoder.png")
