"""For comparing methods: recipes, the learning process, merging, transfer."""

from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.progress import progress_bars
from magictailor.cli.shared import Device, Output, Precision, Preset, console, spinner
from magictailor.common.errors import InputError

app = typer.Typer()
Runs = Annotated[list[Path], typer.Argument(help="Folders of runs.", show_default=False)]
Picture = Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.", show_default=False)]


@app.command()
def recipes() -> None:
    """List the methods, their variants, the paper's ablations with its numbers, and its studies of prompts."""
    from rich.table import Table

    from magictailor.generation.studies import STUDIES
    from magictailor.methods import CATALOGUE

    for group, named in CATALOGUE.items():
        table = Table(title=group, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("--method", "summary", "published"):
            table.add_column(column, no_wrap=column != "summary")
        for name, method in named.items():
            table.add_row(name, method.summary, method.published)
        console.print(table)
        console.print()
    table = Table(title="studies (generate RUN --study ...)", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("--study", "summary", "prompts"):
        table.add_column(column)
    for name, study in STUDIES.items():
        table.add_row(name, study.summary, str(len(study.prompts)))
    console.print(table)
    console.print("\ndifficult pairs: magictailor world pair --challenge size (or category)")
    console.print("published: CLIP-T, CLIP-I, DINO (higher is better), DreamSim (lower) on Stable Diffusion 2.1")


@app.command()
def learning(runs: Runs, output: Picture) -> None:
    """Plot how runs learned: previews over steps, and each sample's loss below."""
    with spinner("plotting"):
        from magictailor.common.files import output_file
        from magictailor.common.pictures import MADE, PNG, save_png
        from magictailor.training.run_folder import read_run

        output_file(output, PNG)
        for run in runs:
            read_run(run)  # before torch is imported

        from magictailor.training.learning import learning_process

        save_png(learning_process(runs), output, MADE)
    console.print(f"wrote {output}")


@app.command()
def merge(runs: Runs, output: Output) -> None:
    """Merge runs of --method custom-diffusion, one sample each, into one run, in closed form."""
    with spinner("merging"):
        from magictailor.common.files import check_new
        from magictailor.training.run_folder import finished_run

        for run in runs:
            finished_run(run)  # before torch is imported
        if len(runs) < 2:
            raise InputError("fewer than two", "name at least two runs to merge", field="runs")
        check_new(output)

        from magictailor.exports.merging import merge_runs

        folder = merge_runs(runs, output)
    console.print(f"wrote {folder}\ntry: magictailor generate {folder} PROMPT")


@app.command()
def transfer(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)],
    image: Annotated[Path, typer.Argument(help="The image to generate in.", show_default=False)],
    region: Annotated[
        Path, typer.Argument(help="A mask of the image's size, white where to generate.", show_default=False)
    ],
    output: Output,
    word: Annotated[str | None, typer.Option(help="Pseudo-word to generate; default: the last.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What to generate in the region; default: the word's training prompt.")
    ] = None,
    number: Annotated[int, typer.Option(help="Number of images.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the first image; each further image has the next number.")] = 0,
    start: Annotated[
        float, typer.Option(help="Fraction of the denoising to skip, 0 to 1; higher keeps more of the image.")
    ] = 0.2,
    strength: Annotated[
        float, typer.Option(help="Strength of the attention's pull into the region; 0: blending only.")
    ] = 0.5,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; default: the recipe's.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Classifier-free guidance scale; default: the recipe's.")
    ] = None,
    device: Device = None,
    precision: Precision = None,
    preset: Preset = None,
) -> None:
    """Generate a run's component inside a region of another image."""
    with spinner("loading"):
        from magictailor.attachments.specs import read_region
        from magictailor.common.files import check_new
        from magictailor.data.images import load_image
        from magictailor.training.run_folder import finished_run

        finished_run(run)  # before torch is imported
        target = check_new(output)
        read_region(region, load_image(image)[0], image)

        from magictailor.api import load
        from magictailor.common.pictures import grid, save_png
        from magictailor.generation.transfer import TransferOptions

        options = TransferOptions(start, strength, steps, guidance)
        loaded = load(run, device=device, precision=precision, preset=preset)
    images = []
    with progress_bars(console) as listen:
        made = loaded.transfer(
            image, region, word=word, prompt=prompt, number=number, seed=seed, options=options, listen=listen
        )
        for done, picture in enumerate(made):
            save_png(picture, target / f"{seed + done}.png")
            images.append(picture)
    save_png(grid([images]), target / "sheet.png")
    console.print(f"{len(images)} images and sheet.png in {target}")
