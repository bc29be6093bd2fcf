"""Files of other tools: export, inspect, mesh."""

from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.progress import progress_bars
from magictailor.cli.shared import Output, console, spinner

app = typer.Typer()


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)],
    output: Output,
    format: Annotated[
        str, typer.Option(help="Format of the files: diffusers, kohya, comfyui, merged or checkpoint.")
    ] = "diffusers",
    bundle: Annotated[
        bool,
        typer.Option(
            "--bundle", help="For format kohya: put the embeddings into the LoRA file as well; only A1111 reads them."
        ),
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Write the weights in half precision.")] = False,
) -> None:
    """Write a run's result as files for ComfyUI, A1111 or diffusers, with a README."""
    with spinner("exporting"):
        from magictailor.exports.checks import check_export

        check_export(run, output, format, bundle)  # before torch is imported

        from magictailor.exports import export as export_run

        folder = export_run(run, output, format, bundle=bundle, half=half)
    console.print(f"wrote {folder}; {folder / 'README.md'} shows how to use it")


@app.command()
def inspect(file: Annotated[Path, typer.Argument(help="A LoRA or embedding file.", show_default=False)]) -> None:
    """Print the contents of a LoRA or embedding file, and which tools read it."""
    from magictailor.exports import inspect as inspect_file

    for label, text in inspect_file(file).lines().items():
        console.print(f"{label:<11}{text}")


@app.command()
def mesh(
    source: Annotated[Path, typer.Argument(help="A picture, or the folder of a finished run.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .glb, .obj or .ply.", show_default=False)
    ],
    prompt: Annotated[str | None, typer.Argument(help="Prompt, when the source is a run.", show_default=False)] = None,
    backend: Annotated[
        str, typer.Option(help="Model that makes the mesh: shap-e, triposr, instantmesh, hunyuan3d-2 or trellis-2.")
    ] = "shap-e",
    background: Annotated[
        str, typer.Option(help="How to remove the background: judge, rembg or keep; auto: judge on the embedded base.")
    ] = "auto",
    mask: Annotated[
        Path | None, typer.Option(help="A mask, white on the object, to use instead of removing the background.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The backend's weights; default: the usual ones.")] = None,
    checkout: Annotated[str | None, typer.Option(help="The folder of the backend's own code.")] = None,
    device: Annotated[str, typer.Option(help="Device: cpu, cuda or mps.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of the image and of the mesh.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: the backend's.")] = None,
) -> None:
    """Make a mesh of the object in a picture, and images of it from all sides."""
    with spinner("loading"):
        from magictailor.mesh import make_mesh
    with progress_bars(console) as listen:
        made = make_mesh(
            source, output, prompt=prompt, backend=backend, background=background, mask=mask, model=model,
            checkout=checkout, device=device, seed=seed, steps=steps, listen=listen,
        )  # fmt: skip
    state = "closed" if made.closed else "not closed"
    console.print(f"{made.file}: {made.vertices} vertices, {made.faces} faces, {state}")
    console.print(f"from all sides: {made.strip}, {made.animation}")
