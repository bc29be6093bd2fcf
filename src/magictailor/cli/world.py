"""The drawn world and the embedded base."""

from typing import Annotated

import typer

from magictailor.cli.shared import Output, console, given, started
from magictailor.progress import bar

Count = Annotated[int | None, typer.Option()]
Rate = Annotated[float | None, typer.Option()]
app = typer.Typer(no_args_is_help=True, help="The procedural world and the embedded base.")


@app.command("pair")
def pair(
    seed: Annotated[int, typer.Option(help="Same seed, same pair.")],
    output: Output,
    difficulty: Annotated[str | None, typer.Option(help="size or category: one that is hard to combine.")] = None,
) -> None:
    """Write a pair of the world as a user's folder, with the true composite and the attributes beside it."""
    from magictailor.errors import InputError
    from magictailor.world.pairs import DIFFICULTIES, write_pair
    from magictailor.world.pairs import world_pair as make

    if difficulty is not None and difficulty not in DIFFICULTIES:
        raise InputError(f"--difficulty {difficulty}: choose {' or '.join(DIFFICULTIES)}")
    console.print(f"wrote {write_pair(make(seed, difficulty), output)}")


@app.command("train")
def train(
    output: Output,
    pictures: Annotated[int | None, typer.Option(help="Pictures drawn ahead.")] = None,
    autoencoder_steps: Count = None,
    autoencoder_rate: Rate = None,
    steps: Annotated[int | None, typer.Option(help="Of the denoiser.")] = None,
    batch: Count = None,
    rate: Rate = None,
    seed: Count = None,
    start: Annotated[
        str | None, typer.Option(help="'embedded' goes on from the shipped weights, 'scratch' not.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Train the embedded base; what is not said is as in its recipe. The same command goes on after any interruption."""
    with started("loading"):
        from magictailor.recipe import part_from
        from magictailor.world.training import WorldTraining, train_world

    recipe = part_from(
        WorldTraining,
        given(
            pictures=pictures, autoencoder_steps=autoencoder_steps, autoencoder_rate=autoencoder_rate,
            steps=steps, batch=batch, rate=rate, seed=seed, start=start,
        ),
    )  # fmt: skip
    with bar("world", console) as watch:
        done = train_world(output, recipe, device, lambda phase, i, n, figures: watch(i, n, figures, phase))
    console.print(f"the base is in {done}")


@app.command("train-judge")
def train_judge(
    output: Output,
    pictures: Annotated[int | None, typer.Option(help="Pictures drawn ahead.")] = None,
    steps: Count = None,
    batch: Count = None,
    rate: Rate = None,
    start: Annotated[
        str | None, typer.Option(help="'embedded' goes on from the shipped weights, 'scratch' not.")
    ] = None,
) -> None:
    """Train the judge, which scores benches and makes masks. The same command goes on after any interruption."""
    with started("loading"):
        from magictailor.recipe import part_from
        from magictailor.world.training.judge import JudgeTraining
        from magictailor.world.training.judge import train_judge as train

        recipe = part_from(JudgeTraining, given(pictures=pictures, steps=steps, batch=batch, rate=rate, start=start))
    with bar("judge", console) as watch:
        scores = train(output, recipe, watch, lambda done, total: watch(done, total, {}, "pictures"))
    for name, value in scores["renders"].items():
        console.print(f"{name:<14}{value:.3f}")
    console.print(f"the weights are in {output}")
