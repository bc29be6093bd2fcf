"""The command line: thin shells over the Python functions."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from magictailor.errors import InputError, RunError
from magictailor.progress import bar

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
world = typer.Typer(no_args_is_help=True, help="The procedural world and the embedded base.")
app.add_typer(world, name="world")
console = Console(markup=False, highlight=False)  # names of files may look like markup

PairPath = Annotated[Path, typer.Argument(help="A folder of images and masks, or a pair.toml.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="A new or empty folder.", show_default=False)]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: key=value, many times.")]
LoRAs = Annotated[list[str] | None, typer.Option("--lora", help="A community LoRA: FILE or FILE=0.8, many times.")]
Model = Annotated[str, typer.Option(help="'embedded' or a diffusers folder.")]


@contextmanager
def _started(what: str) -> Iterator[None]:
    """A spinner while libraries and weights load."""
    with console.status(what):
        yield


@app.command()
def pair(path: PairPath, sheet: Annotated[Path | None, typer.Option(help="Write the overview here.")] = None) -> None:
    """Print what a pair holds and draw its images with the masks overlaid."""
    from magictailor.data import describe, overview, read_pair
    from magictailor.files import output_file
    from magictailor.pictures import save_png

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
    with _started("loading"):
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
    method: Annotated[str, typer.Option(help="magictailor, magictailor-reference or plain-lora.")] = "magictailor",
    settings: Settings = None,
    loras: LoRAs = None,
    start: Annotated[Path | None, typer.Option(help="Begin from a finished run or an exported folder.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the whole recipe and stop.")] = False,
) -> None:
    """Fine-tune on a pair. The same command goes on after any interruption."""
    from magictailor.data import describe, read_pair

    read = read_pair(path)
    with _started("loading"):
        from magictailor.backbones import community_lora, load_backbone
        from magictailor.files import output_folder
        from magictailor.train import personalize, recipe_for

        backbone = load_backbone(model, [community_lora(text) for text in loras or ()])
        recipe = recipe_for(backbone, method, settings)
    if dry_run:
        print(json.dumps(recipe.dump(), indent=2))
        return
    if output is None:
        raise InputError("--output is missing: name a folder for the run, for instance --output runs/first")
    output = output_folder(output, outside=path if path.is_dir() else None)
    console.print(describe(read))
    with bar("training", console) as watch:
        personalize(read, output, model=backbone, recipe=recipe, start=start, watch=watch)
    console.print(
        f'done: {output}\ntry: magictailor generate {output} "{" with ".join(s.word for s in read.samples[:2])}"'
    )


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)],
    prompts: Annotated[list[str], typer.Argument(help='For instance "<person> with <hair>, on the beach".')],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: RUN/images.")] = None,
    number: Annotated[int, typer.Option(help="Pictures of each prompt.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the first picture; the next ones count on.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; default: the recipe's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Default: the recipe's.")] = None,
    scheduler: Annotated[str, typer.Option(help="ddim, dpm++, dpm++-karras or sde-dpm++.")] = "ddim",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 8,
    loras: LoRAs = None,
) -> None:
    """Draw pictures with a run's pseudo-words: PNGs with prompt and seed inside, and a contact sheet."""
    with _started("loading"):
        from magictailor.files import output_folder
        from magictailor.generation import generate as draw
        from magictailor.generation import save_pictures

        pictures = draw(
            run,
            prompts,
            number=number,
            seed=seed,
            steps=steps,
            guidance=guidance,
            scheduler_name=scheduler,
            batch=batch,
            loras=loras or (),
        )
    target = output_folder(output or run / "images")
    with bar("drawing", console) as watch:
        total = number * len(prompts)

        def counted() -> Iterator[object]:
            for done, item in enumerate(pictures, 1):
                watch(done, total, {})
                yield item

        paths = save_pictures(counted(), target)  # type: ignore[arg-type]
    console.print(f"{len(paths)} pictures and sheet.png in {target}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run.", show_default=False)],
    output: Output,
    format: Annotated[str, typer.Option(help="diffusers, kohya, comfyui, merged or checkpoint.")] = "diffusers",
    bundle: Annotated[bool, typer.Option("--bundle", help="kohya: the embeddings in the LoRA's file as well.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Half precision.")] = False,
) -> None:
    """Write a run as ComfyUI, A1111 or diffusers load it, with a README of how."""
    with _started("exporting"):
        from magictailor.exports import export as write

        folder = write(run, output, format, bundle=bundle, half=half)
    console.print(f"wrote {folder}; {folder / 'README.md'} says how to use it")


@app.command()
def inspect(file: Annotated[Path, typer.Argument(help="A LoRA or an embedding.", show_default=False)]) -> None:
    """Print what a LoRA or embedding file holds, and which tools read it."""
    from magictailor.exports import inspect as read

    for what, how in read(file).lines().items():
        console.print(f"{what:<11}{how}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The demo's folder.")] = Path("magictailor-demo"),
    seed: Annotated[int, typer.Option(help="Which pair of the world.")] = 100_000_000,
) -> None:
    """Draw a pair from the world, train on it, and write one page that shows it all."""
    with _started("loading"):
        from magictailor.demo import run_demo
    with bar("demo", console) as watch:
        page = run_demo(output, seed, watch)
    console.print(f"open {page.resolve()} in a browser")


@world.command("pair")
def world_pair(seed: Annotated[int, typer.Option(help="Same seed, same pair.")], output: Output) -> None:
    """Write a pair of the world as a user's folder, with the true composite and the attributes beside it."""
    from magictailor.world.pairs import world_pair as make
    from magictailor.world.pairs import write_pair

    console.print(f"wrote {write_pair(make(seed), output)}")


@world.command("train")
def world_train(
    output: Output,
    pictures: Annotated[int, typer.Option(help="Pictures drawn ahead.")] = 80_000,
    autoencoder_steps: Annotated[int, typer.Option()] = 4_200,
    autoencoder_rate: Annotated[float, typer.Option()] = 2e-3,
    steps: Annotated[int, typer.Option(help="Of the denoiser.")] = 5_000,
    batch: Annotated[int, typer.Option()] = 64,
    rate: Annotated[float, typer.Option()] = 1e-3,
    seed: Annotated[int, typer.Option()] = 0,
    start: Annotated[str, typer.Option(help="'scratch', or 'embedded' to go on from the shipped weights.")] = "scratch",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Train the embedded base. The same command goes on after any interruption."""
    with _started("loading"):
        from magictailor.recipe import part_from
        from magictailor.world.training import WorldTraining, train_world

    changes = {
        "pictures": pictures, "autoencoder_steps": autoencoder_steps, "autoencoder_rate": autoencoder_rate,
        "steps": steps, "batch": batch, "rate": rate, "seed": seed, "start": start,
    }  # fmt: skip
    recipe = part_from(WorldTraining, changes)
    with bar("world", console) as watch:
        done = train_world(output, recipe, device, lambda phase, i, n, figures: watch(i, n, figures, phase))
    console.print(f"the base is in {done}")


@world.command("train-segmenter")
def world_train_segmenter(
    output: Output,
    pictures: Annotated[int, typer.Option(help="Pictures drawn ahead.", min=100)] = 40_000,
    steps: Annotated[int, typer.Option(min=1)] = 2_500,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    rate: Annotated[float, typer.Option()] = 2e-3,
) -> None:
    """Train the segmenter that `masks --model embedded` uses. The same command goes on after any interruption."""
    with _started("loading"):
        from magictailor.files import output_folder
        from magictailor.world.training.segmenter import train_segmenter

        folder = output_folder(output)
    with bar("segmenter", console) as watch:
        score = train_segmenter(
            folder, pictures, steps, batch, rate, watch, lambda done, total: watch(done, total, {}, "pictures")
        )
    console.print(f"overlap {score['all']:.3f}; the weights are in {folder}")


def _quiet() -> None:
    """Keep libraries' notes off the user's screen."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def _stop(code: int, message: str) -> NoReturn:
    print("error: " + message.replace("\n", " "), file=sys.stderr)
    sys.exit(code)


def main() -> None:
    """Errors become one line: exit code 2 for bad input, 1 for a run that cannot go on."""
    _quiet()
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        _stop(2, str(error))
    except (RunError, FloatingPointError) as error:
        _stop(1, str(error))
    except Exception as error:  # typer's own click, whose exceptions have no public name
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        if not hasattr(error, "format_message"):
            raise
        _stop(2, f"{error.format_message()} (magictailor --help lists what there is)")
    if code == 130:  # what typer makes of Ctrl-C
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
    sys.exit(code)
