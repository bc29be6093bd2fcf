"""Files for and of other tools: export, inspect."""

from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.shared import Output, console, started

app = typer.Typer()


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run.", show_default=False)],
    output: Output,
    format: Annotated[str, typer.Option(help="diffusers, kohya, comfyui, merged or checkpoint.")] = "diffusers",
    bundle: Annotated[bool, typer.Option("--bundle", help="kohya: the embeddings in the LoRA's file as well.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Half precision.")] = False,
) -> None:
    """Write a run as ComfyUI, A1111 or diffusers load it, with a README of how."""
    with started("exporting"):
        from magictailor.exports import export as write

        folder = write(run, output, format, bundle=bundle, half=half)
    console.print(f"wrote {folder}; {folder / 'README.md'} says how to use it")


@app.command()
def inspect(file: Annotated[Path, typer.Argument(help="A LoRA or an embedding.", show_default=False)]) -> None:
    """Print what a LoRA or embedding file holds, and which tools read it."""
    from magictailor.exports import inspect as read

    for what, how in read(file).lines().items():
        console.print(f"{what:<11}{how}")
