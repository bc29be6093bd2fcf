"""Photos before a training: pair, masks."""

from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.progress import progress_bars
from magictailor.cli.shared import PairPath, console, spinner
from magictailor.common.errors import InputError

app = typer.Typer()


@app.command()
def pair(
    path: PairPath, sheet: Annotated[Path | None, typer.Option(help="Write the overview to this PNG.")] = None
) -> None:
    """Print a table of a pair's photos; with --sheet, also write an overview of their masks."""
    from magictailor.common.files import output_file
    from magictailor.common.pictures import MADE, PNG, save_png
    from magictailor.data import describe, overview, read_pair

    read = read_pair(path)
    if sheet is not None:
        output_file(sheet, PNG, field="sheet", outside=path if path.is_dir() else None)
    console.print(describe(read))
    if sheet is not None:
        save_png(overview(read), sheet, MADE)
        console.print(f"sheet: {sheet}")


@app.command()
def masks(
    path: PairPath,
    model: Annotated[
        str,
        typer.Option(help="Segmentation model: clipseg, dino+sam, dino+sam2, sam3, embedded, or grabcut with boxes."),
    ],
    box: Annotated[
        list[str] | None,
        typer.Option(help="For grabcut: a box around the object, FILE=left,top,right,bottom, one per photo."),
    ] = None,
    threshold: Annotated[float, typer.Option(help="How sure a region must be, 0 .. 1.")] = 0.25,
    count: Annotated[
        list[str] | None, typer.Option(help="Number of regions that make the masks of a label, LABEL=2; repeatable.")
    ] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Keep soft edges.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing masks.")] = False,
    weights: Annotated[str | None, typer.Option(help="The segmentation model's folder or hub id.")] = None,
    detector: Annotated[
        str | None, typer.Option(help="For dino+sam and dino+sam2: GroundingDINO's folder or hub id.")
    ] = None,
) -> None:
    """Make the masks of a pair from its labels, and an overview of them."""
    with spinner("loading"):
        from magictailor.segmentation import load_segmenter, make_masks
        from magictailor.segmentation.masks import read_counts

        counts = read_counts(count or ())
        segmenter = load_segmenter(model, boxes=box or (), weights=weights, detector=detector)
    with progress_bars(console) as listen:
        made = make_masks(
            path, segmenter, threshold=threshold, counts=counts, soft=soft, overwrite=overwrite,
            listen=listen,
        )  # fmt: skip
    for m in made:
        if not m.missing:
            summary = m.note or f"{100 * m.coverage:.1f} % of the photo, {m.score:.2f} sure, {m.regions} regions"
            console.print(f"{m.image.name}: {m.label}, {summary}")
    missing = [m for m in made if m.missing]
    if missing:
        notes = "; ".join(f"{m.image.name}: {m.note}" for m in missing)
        raise InputError(f"{len(missing)} of {len(made)} masks are missing; the others are saved. {notes}")
