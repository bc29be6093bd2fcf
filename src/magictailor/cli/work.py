"""From a pair to pictures: pair, masks, train, generate, demo."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.progress import bar
from magictailor.cli.shared import (
    Compiled,
    Device,
    LoRAs,
    Model,
    PairPath,
    Precision,
    Preset,
    Settings,
    console,
    started,
)
from magictailor.common.errors import InputError

app = typer.Typer()


@app.command()
def pair(path: PairPath, sheet: Annotated[Path | None, typer.Option(help="Write the overview here.")] = None) -> None:
    """Print what a pair holds and draw its images with the masks overlaid."""
    from magictailor.common.files import output_file
    from magictailor.common.pictures import save_png
    from magictailor.data import describe, overview, read_pair

    read = read_pair(path)
    if sheet is not None:
        output_file("--sheet", sheet, outside=path if path.is_dir() else None)
    console.print(describe(read))
    if sheet is not None:
        save_png(overview(read), sheet)
        console.print(f"sheet: {sheet}")


@app.command()
def masks(
    path: PairPath,
    model: Annotated[str, typer.Option(help="clipseg, dino+sam, dino+sam2, sam3, embedded, or grabcut with boxes.")],
    box: Annotated[list[str] | None, typer.Option(help="grabcut: FILE=left,top,right,bottom, one an image.")] = None,
    threshold: Annotated[float, typer.Option(help="How sure a region must be, 0 .. 1.")] = 0.25,
    count: Annotated[list[str] | None, typer.Option(help="LABEL=2: how many regions make its mask.")] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Keep soft edges.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make existing masks anew.")] = False,
    weights: Annotated[str | None, typer.Option(help="The model's folder or hub id.")] = None,
    detector: Annotated[str | None, typer.Option(help="dino+sam: GroundingDINO's folder or hub id.")] = None,
) -> None:
    """Draw the masks of a pair from its labels, and an overview of what was found."""
    with started("loading"):
        from magictailor.segmentation import load_segmenter, make_masks
        from magictailor.segmentation.writing import read_counts

        counts = read_counts(count or ())
        segmenter = load_segmenter(model, boxes=box or (), weights=weights, detector=detector)
    with bar("masks", console) as watch:
        made = make_masks(
            path, segmenter, threshold=threshold, counts=counts, soft=soft, overwrite=overwrite,
            watch=lambda done, total: watch(done, total, {}),
        )  # fmt: skip
    for m in made:
        if not m.missing:
            how = m.note or f"{100 * m.coverage:.1f} % of the image, {m.score:.2f} sure, {m.regions} regions"
            console.print(f"{m.image.name}: {m.label}, {how}")
    lacking = [m for m in made if m.missing]
    if lacking:
        told = "; ".join(f"{m.image.name}: {m.note}" for m in lacking)
        raise InputError(f"{len(lacking)} of {len(made)} masks are missing, the others are kept. {told}")


@app.command()
def train(
    path: PairPath,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The run's folder.")] = None,
    model: Model = "embedded",
    method: Annotated[str, typer.Option(help="See magictailor recipes.")] = "magictailor",
    settings: Settings = None,
    loras: LoRAs = None,
    device: Device = None,
    precision: Precision = None,
    preset: Preset = None,
    compiled: Compiled = False,
    start: Annotated[Path | None, typer.Option(help="Begin from a finished run or an exported folder.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the whole recipe and stop.")] = False,
) -> None:
    """Fine-tune on a pair. The same command goes on after any interruption."""
    from magictailor.data import describe, read_pair

    read = read_pair(path)
    with started("loading"):
        from magictailor.backbones import community_lora, load_backbone
        from magictailor.common.files import output_folder
        from magictailor.common.processes import launched
        from magictailor.training.loop import personalize, recipe_for

        count = launched()

        added = [community_lora(text) for text in loras or ()]
        backbone = load_backbone(model, added, device=device, precision=precision, preset=preset, compiled=compiled)
        recipe = recipe_for(backbone, method, settings)
    if backbone.assumed:
        print(backbone.assumed, file=sys.stderr)  # what --dry-run prints is JSON
    if dry_run:
        print(json.dumps(recipe.dump(), indent=2))
        return
    if output is None:
        raise InputError("--output is missing: name a folder for the run, for instance --output runs/first")
    output = output_folder(output, outside=path if path.is_dir() else None)
    console.print(describe(read))
    if count > 1:
        console.print(f"{count} processes share each step")
    with bar("training", console) as watch:
        personalize(read, output, model=backbone, recipe=recipe, start=start, watch=watch, tell=console.print,
            draws=lambda done, total: watch(done, total, {}, "prior"))  # fmt: skip
    console.print(
        f'done: {output}\ntry: magictailor generate {output} "{" with ".join(s.word for s in read.samples[:2])}"'
    )


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)],
    prompts: Annotated[
        list[str] | None, typer.Argument(help='For instance "<person> with <hair>, on the beach".', show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: RUN/images.")] = None,
    study: Annotated[str | None, typer.Option(help="Prompts of the paper: see magictailor recipes.")] = None,
    number: Annotated[int, typer.Option(help="Pictures of each prompt.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the first picture; the next ones count on.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; default: the recipe's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Default: the recipe's.")] = None,
    scheduler: Annotated[str, typer.Option(help="ddim, dpm++, dpm++-karras or sde-dpm++.")] = "ddim",
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures at a time; default: the preset's.")] = None,
    loras: LoRAs = None,
    device: Device = None,
    precision: Precision = None,
    preset: Preset = None,
    compiled: Compiled = False,
) -> None:
    """Draw pictures with a run's pseudo-words: PNGs with prompt and seed inside, and a contact sheet."""
    with started("loading"):
        from magictailor.common.files import output_folder
        from magictailor.generation.pictures import finished_run, save_pictures
        from magictailor.generation.pictures import generate as draw
        from magictailor.generation.studies import study_prompts

        asked = [*(prompts or ()), *(study_prompts(study, list(finished_run(run)[1].words)) if study else ())]
        if not asked:
            raise InputError('no prompt: write one, for instance "<person> with <hair>", or choose a --study')
        pictures = draw(
            run,
            asked,
            number=number,
            seed=seed,
            steps=steps,
            guidance=guidance,
            scheduler_name=scheduler,
            batch=batch,
            loras=loras or (),
            device=device,
            precision=precision,
            preset=preset,
            compiled=compiled,
        )
    target = output_folder(output or run / "images")
    with bar("drawing", console) as watch:
        total = number * len(asked)

        def counted() -> Iterator[object]:
            for done, item in enumerate(pictures, 1):
                watch(done, total, {})
                yield item

        paths = save_pictures(counted(), target)  # type: ignore[arg-type]
    console.print(f"{len(paths)} pictures and sheet.png in {target}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The demo's folder.")] = Path("magictailor-demo"),
    pair: Annotated[int | None, typer.Option(help="The seed of another pair of the world.", show_default=False)] = None,
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="Show the page in a browser, where there is one.")
    ] = True,
) -> None:
    """Draw a pair from the world, train on it, and open one page that shows it all."""
    import webbrowser

    with started("loading"):
        from magictailor.demo import PAIR, run_demo
    with bar("demo", console) as watch:
        page = run_demo(output, PAIR if pair is None else pair, watch)
    console.print(f"the page: {page.resolve()}")
    if show and sys.stdout.isatty():  # not where nobody looks: in a script, or under a test
        webbrowser.open(page.resolve().as_uri())
