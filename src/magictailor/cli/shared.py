"""What all commands share: the console, the kinds of argument, the spinner."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.output import PlainConsole

console = PlainConsole()

on_stderr = PlainConsole(stderr=True, soft_wrap=True)

PairPath = Annotated[Path, typer.Argument(help="A folder of photos and masks, or a pair.toml.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="A new or empty folder.", show_default=False)]
OwnOutput = Annotated[
    Path, typer.Option("--output", "-o", help="The folder; the same command resumes in it.", show_default=False)
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: key=value, repeatable.")]
LoRAs = Annotated[list[str] | None, typer.Option("--lora", help="A community LoRA: FILE or FILE=0.8, repeatable.")]
Device = Annotated[str | None, typer.Option(help="Device: cpu, cuda or mps; default: the best available.")]
Precision = Annotated[
    str | None, typer.Option(help="Precision: fp32, bf16, fp16, int8 or nf4; default: half on CUDA, else full.")
]
Preset = Annotated[str | None, typer.Option(help="Memory preset: 8gb, 12gb, 16gb, 24gb or fast; default: the GPU's.")]
Compiled = Annotated[bool, typer.Option("--compile", help="Compile the denoiser's blocks, for long runs.")]
Model = Annotated[
    str,
    typer.Option(help="Base model: 'embedded', 'embedded-dit', a diffusers folder, a .safetensors file or a hub id."),
]


def given(**options: object) -> dict[str, object]:
    """The options that were typed; a recipe has its own defaults for the rest."""
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def spinner(title: str) -> Iterator[None]:
    """A spinner while libraries and weights load."""
    with console.status(title):
        yield
