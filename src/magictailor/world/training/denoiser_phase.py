"""Last phase of the base's training: the denoiser with its text encoder."""

from collections.abc import Mapping
from functools import partial

import torch

from magictailor.common.files import write_json
from magictailor.common.pictures import save_png
from magictailor.world.training.autoencoder import encode
from magictailor.world.training.bank import Bank
from magictailor.world.training.denoiser import ARCHITECTURES, train_denoiser
from magictailor.world.training.examples import Examples
from magictailor.world.training.latents import Latents
from magictailor.world.training.output import Weights, write_base, write_state
from magictailor.world.training.rendering import Chunk
from magictailor.world.training.samples import sample_captions, sample_sheet
from magictailor.world.training.session import Session
from magictailor.world.training.state import Trainee

CHUNKS_PER_STEP = 4  # of renders that are taken in after a step, at most: a step that waits for them costs more


class DenoiserPhase:
    """Trains, measures and saves the denoiser. ``start``: weights to begin with, none if empty."""

    def __init__(
        self,
        session: Session,
        bank: Bank,
        examples: Examples,
        latents: Latents,
        held_out: Chunk,
        start: Mapping[str, Weights],
    ) -> None:
        self.session, self.bank, self.examples, self.latents = session, bank, examples, latents
        recipe, device = session.recipe, session.device
        torch.manual_seed(recipe.seed)
        self.networks = {
            n: module.to(device) for n, module in ARCHITECTURES[recipe.architecture].new_networks().items()
        }
        for name, module in self.networks.items():
            if name in start:  # another architecture's text encoder has no projection
                module.load_state_dict(start[name], strict="unet" in self.networks)
        seconds = (session.clock.limit or 0.0) - session.reserve - session.clock.begin("denoiser")
        self.trainee = Trainee(
            list(self.networks.values()), session.folder / "denoiser.safetensors", recipe.lr, recipe.ema,
            session.begin_phase("denoiser", seconds, recipe.steps), half=recipe.half, moments=session.on_cpu,
        )  # fmt: skip
        self.task = ARCHITECTURES[recipe.architecture].denoising(self.networks)
        if recipe.compile:
            self.task.predict = torch.compile(self.task.denoiser, dynamic=False)
        self.held_out_latents = encode(latents.autoencoder, torch.from_numpy(held_out.images).to(device))
        self.held_out_tokens = torch.from_numpy(held_out.tokens[:, 0]).long().to(device)

    def run(self) -> None:
        session, recipe = self.session, self.session.recipe
        log = partial(session.log, "denoiser", steps=recipe.steps)
        train_denoiser(self.task, self.examples, self.trainee, recipe.batch, recipe.seed, self._after_step, log)
        session.attempt("held out", self._measure)
        self._save()
        self.bank.close()
        session.clock.begin("samples")
        session.attempt("samples", self._write_samples)

    def _after_step(self) -> None:
        for _ in range(CHUNKS_PER_STEP if self.session.timed else 0):
            if self.bank.ready() and (chunk := self.bank.next()) is not None:
                self.latents.add(chunk, self.examples)
        if self.session.save_due():
            self.session.attempt("held out", self._measure)
            self._save()

    def _measure(self) -> None:
        with self.trainee.averaged(), torch.compiler.set_stance("force_eager"):  # other shapes are not compiled
            loss = self.task.held_out(self.held_out_latents, self.held_out_tokens)
        self.session.log("held out", self.trainee.step, {"loss": loss})

    def _weights(self, *, average: bool) -> dict[str, Weights]:
        return {name: self.trainee.state_dict(i, average=average) for i, name in enumerate(self.networks)}

    def _save(self) -> None:
        session, trainee, folder = self.session, self.trainee, self.session.folder
        session.clock.save()
        if session.on_cpu:
            trainee.save()
        write_state(folder / "state", self._weights(average=False), trainee.step)
        session.record |= {
            "pictures_seen": trainee.step * session.recipe.batch,
            "distinct_pictures": self.examples.count,
            "steps": trainee.step,
            "seconds": round(session.clock.seconds(), 1),
            "phases_began_at": session.clock.began,
            "held_out_loss": session.logged("held out", "loss"),
            "loss": session.logged("denoiser", "loss"),
        }
        architecture = ARCHITECTURES[session.recipe.architecture]
        write_base(folder / "base", architecture, self._weights(average=True), self.latents.autoencoder, session.record)
        write_json(folder / "training.json", session.record)
        session.attempt("pack", session.pack)

    def _write_samples(self) -> None:
        session = self.session

        def time_left() -> bool:
            return session.clock.left() > 0.25 * session.reserve

        captions = sample_captions(session.recipe.samples)
        batch = 64 if session.device.type == "cuda" else 8
        sheet = sample_sheet(session.folder / "base", captions, str(session.device), time_left, batch)
        if sheet is not None:
            save_png(sheet, session.folder / "samples.png")
            write_json(session.folder / "samples.json", captions)
