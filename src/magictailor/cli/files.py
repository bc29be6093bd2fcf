"""Files of other tools: export, inspect."""

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
    bundle: Annotated[
        bool, typer.Option("--bundle", help="kohya: embeddings also in the LoRA file, for A1111 alone.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Half precision.")] = False,
) -> None:
    """Write a run's result as files for ComfyUI, A1111 or diffusers, with a README."""
    with started("exporting"):
        from magictailor.training.run_folder import finished_run

        finished_run(run)  # before torch is imported

        from magictailor.exports import export as export_run

        folder = export_run(run, output, format, bundle=bundle, half=half)
    console.print(f"wrote {folder}; {folder / 'README.md'} shows how to use it")


@app.command()
def inspect(file: Annotated[Path, typer.Argument(help="A LoRA or an embedding.", show_default=False)]) -> None:
    """Print the contents of a LoRA or embedding file, and which tools read it."""
    from magictailor.exports import inspect as inspect_file

    for label, text in inspect_file(file).lines().items():
        console.print(f"{label:<11}{text}")
