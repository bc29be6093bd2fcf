"""The world, and the training of the embedded base and of the judge."""

from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.progress import bar
from magictailor.cli.shared import Output, Settings, console, given, started
from magictailor.common.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Practice pairs whose truth is known, and the embedded models.")
Start = Annotated[str | None, typer.Option(help="scratch, embedded, or the folder of an earlier training.")]
Minutes = Annotated[float | None, typer.Option(help="Train for so long, whatever the steps; for a borrowed card.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of the CPU.")]


def _use(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


@app.command("pair")
def pair(
    seed: Annotated[int, typer.Option(help="Same seed, same pair.")],
    output: Output,
    challenge: Annotated[
        str | None,
        typer.Option(help="plain, polluting, unequal, novel, size or category; if not given, by the seed."),
    ] = None,
) -> None:
    """Write a pair of the world as a user's folder, with the true composite and the attributes beside it."""
    from magictailor.world.pairs import CHALLENGES, world_pair, write_pair

    if challenge is not None and challenge not in CHALLENGES:
        raise InputError(f"--challenge {challenge}: choose one of {', '.join(CHALLENGES)}")
    console.print(f"wrote {write_pair(world_pair(seed, challenge), output)}")


@app.command("train")
def train(
    output: Output,
    steps: Annotated[int | None, typer.Option(help="Of the denoiser.")] = None,
    minutes: Minutes = None,
    start: Start = None,
    settings: Settings = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    threads: Threads = None,
) -> None:
    """Train the embedded base; --set changes its recipe. The same command goes on after any interruption."""
    with started("loading"):
        from magictailor.recipe import part_from, with_settings
        from magictailor.world.training import WorldTraining, train_world

        recipe = part_from(WorldTraining, given(steps=steps, minutes=minutes, start=start))
        recipe = with_settings(recipe, settings or [])
        _use(threads)
    with bar("world", console) as watch:
        done = train_world(output, recipe, device, lambda phase, i, n, losses: watch(i, n, losses, phase))
    console.print(f"the base is in {done}")


@app.command("train-judge")
def train_judge(
    output: Output,
    steps: Annotated[int | None, typer.Option()] = None,
    minutes: Minutes = None,
    start: Annotated[Path | None, typer.Option(help="A judge.safetensors to begin with.")] = None,
    settings: Settings = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    threads: Threads = None,
) -> None:
    """Train the judge, which scores benches and makes masks. The same command goes on after any interruption."""
    with started("loading"):
        from magictailor.recipe import part_from, with_settings
        from magictailor.world.embedded import load_autoencoder
        from magictailor.world.training.judge import JudgeTraining
        from magictailor.world.training.judge import train_judge as run

        recipe = part_from(JudgeTraining, given(steps=steps, minutes=minutes, start=start and str(start)))
        recipe = with_settings(recipe, settings or [])
        _use(threads)
    with bar("judge", console) as watch:
        scores = run(
            output, recipe, watch, device, coder=load_autoencoder(),
            progress=lambda done, total: watch(done, total, {}, "pictures"),
        )  # fmt: skip
    for name, value in scores["renders"].items():
        console.print(f"{name:<28}{value:.3f}")
    console.print(f"the weights are in {output}")
