"""The world, and the training of the embedded base and of the judge."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from magictailor.cli.progress import progress_bars
from magictailor.cli.shared import Output, OwnOutput, Settings, console, given, spinner
from magictailor.common.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Synthetic pairs with known ground truth, and the embedded models.")
Start = Annotated[
    str | None, typer.Option(help="Where to start: scratch, embedded, or the folder of an earlier training.")
]
Minutes = Annotated[float | None, typer.Option(help="Minutes to train, regardless of the number of steps.")]
Steps = Annotated[int | None, typer.Option(help="Number of steps.")]
Device = Annotated[str, typer.Option(help="Device: cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads.")]


def _use_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


@app.command("pair")
def pair(
    seed: Annotated[int, typer.Option(help="Seed of the pair; the same seed gives the same pair.")],
    output: Output,
    challenge: Annotated[
        str | None,
        typer.Option(
            help="Challenge: plain, polluting, unequal, novel, size or category; default: chosen by the seed."
        ),
    ] = None,
    components: Annotated[
        int, typer.Option(help="Number of components, 1 to 3; not with --challenge if there are several.")
    ] = 1,
) -> None:
    """Write a pair of the world as a folder of photos and masks, with the true composite and all attributes."""
    from magictailor.world.pairs import world_pair, write_pair
    from magictailor.world.sets import world_set, write_set

    if components == 1:
        console.print(f"wrote {write_pair(world_pair(seed, challenge), output)}")
        return
    if challenge is not None:
        raise InputError("is for one component", "leave it out", field="challenge")
    console.print(f"wrote {write_set(world_set(seed, components), output)}")


@app.command("train")
def train(
    output: OwnOutput,
    steps: Annotated[int | None, typer.Option(help="Number of steps of the denoiser.")] = None,
    minutes: Minutes = None,
    start: Start = None,
    settings: Settings = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Train the embedded base; --set changes its recipe. After an interruption, run the same command again."""
    with spinner("loading"):
        from magictailor.recipe import config_from, with_settings
        from magictailor.world.training import WorldTraining, train_world

        recipe = config_from(WorldTraining, given(steps=steps, minutes=minutes, start=start))
        recipe = with_settings(recipe, settings or [])
        _use_threads(threads)
    with progress_bars(console) as listen:
        base = train_world(output, recipe, device, listen=listen)
    console.print(f"the base is in {base}")


@app.command("train-judge")
def train_judge(
    output: OwnOutput,
    steps: Steps = None,
    minutes: Minutes = None,
    start: Annotated[Path | None, typer.Option(help="Start from this judge.safetensors.")] = None,
    settings: Settings = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Train the judge, which scores benches and makes masks. After an interruption, run the same command again."""
    with spinner("loading"):
        from magictailor.recipe import config_from, with_settings
        from magictailor.world.embedded import load_autoencoder
        from magictailor.world.training.judge import JudgeTraining
        from magictailor.world.training.judge import train_judge as run

        recipe = config_from(JudgeTraining, given(steps=steps, minutes=minutes, start=start and str(start)))
        recipe = with_settings(recipe, settings or [])
        _use_threads(threads)
    with progress_bars(console) as listen:
        scores = run(output, recipe, device, autoencoder=load_autoencoder(), listen=listen)
    for name, value in scores["renders"].items():
        console.print(f"{name:<28}{value:.3f}")
    console.print(f"the weights are in {output}")


def _train_adapter(
    output: Path,
    steps: int | None,
    settings: list[str] | None,
    device: str | None,
    threads: int | None,
    kind: str,
    parts: Callable[[], Any],
) -> None:
    """``kind``: the adapter's folder in ``output``; ``parts``: imports its recipe's class and its training."""
    with spinner("loading"):
        from magictailor.recipe import config_from, with_settings

        recipe_class, run = parts()
        recipe = with_settings(config_from(recipe_class, given(steps=steps)), settings or [])
        _use_threads(threads)
    with progress_bars(console) as listen:
        record = run(output, recipe, device, workers=threads or 2, listen=listen)
    for name in ("edge overlap", "style right"):
        if name in record:
            console.print(f"{name}: {record[name]['with']:.3f} with it, {record[name]['without']:.3f} without")
    console.print(f"the adapter is in {output}/{kind}")


@app.command("train-control")
def train_control(
    output: OwnOutput, steps: Steps = None, settings: Settings = None, device: Device = "cpu", threads: Threads = None
) -> None:
    """Train the embedded base's ControlNet for line drawings. After an interruption, run the same command again."""

    def parts() -> Any:
        from magictailor.world.training.control import ControlTraining
        from magictailor.world.training.control import train_control as run

        return ControlTraining, run

    _train_adapter(output, steps, settings, device, threads, "control", parts)


@app.command("train-style")
def train_style(
    output: OwnOutput, steps: Steps = None, settings: Settings = None, device: Device = "cpu", threads: Threads = None
) -> None:
    """Train the embedded base's IP-Adapter for the style of a picture. After an interruption, run the same command again."""

    def parts() -> Any:
        from magictailor.world.training.style import StyleTraining
        from magictailor.world.training.style import train_style as run

        return StyleTraining, run

    _train_adapter(output, steps, settings, device, threads, "style", parts)
