"""From a pair to images: train, ask, generate, demo."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from magictailor.cli.attached import (
    ControlEnd,
    ControlMaps,
    ControlModel,
    Controls,
    ControlStart,
    ControlStrength,
    ImageOption,
    Region,
    Strength,
    StyleCheckout,
    StyleEncoder,
    StyleImage,
    StyleLayers,
    StyleModel,
    StyleStrength,
    controls,
    starting_picture,
    style_image,
)
from magictailor.cli.progress import print_notices, progress_bars
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
    on_stderr,
    spinner,
)
from magictailor.common.errors import InputError

app = typer.Typer()


@app.command()
def train(
    path: PairPath,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The run's folder.")] = None,
    model: Model = "embedded",
    method: Annotated[str, typer.Option(help="Name of the method; magictailor recipes lists them.")] = "magictailor",
    settings: Settings = None,
    loras: LoRAs = None,
    device: Device = None,
    precision: Precision = None,
    preset: Preset = None,
    compiled: Compiled = False,
    start: Annotated[Path | None, typer.Option(help="Start from a finished run or an exported folder.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the whole recipe and stop.")] = False,
) -> None:
    """Fine-tune on a pair. The same command resumes after any interruption."""
    with spinner("reading"):
        from magictailor.common.files import output_folder
        from magictailor.data import describe, read_pair
        from magictailor.training.preflight import check_training

        if output is None and not dry_run:
            raise InputError(
                "is missing", "name a folder for the run, for instance `--output runs/first`", field="output"
            )
        check_training(model, method, settings or (), loras or (), start)  # before torch is imported
        read = read_pair(path)
        if output is not None:
            output = output_folder(output, outside=path if path.is_dir() else None)
    with spinner("loading"):
        from magictailor.backbones import load_backbone
        from magictailor.backbones.community_lora import community_lora
        from magictailor.common.launcher import launched_processes
        from magictailor.training.start import read_start
        from magictailor.training.train import make_recipe
        from magictailor.training.train import train as run_training

        added = [community_lora(text) for text in loras or ()]
        backbone = load_backbone(
            model, added, print_notices(on_stderr), device=device, precision=precision, preset=preset, compiled=compiled
        )
        recipe = make_recipe(backbone, method, settings or ())
    if dry_run or output is None:
        if backbone.assumption:
            on_stderr.print(backbone.assumption)  # what --dry-run prints is JSON
        print(json.dumps(recipe.dump(), indent=2))
        return
    console.print(describe(read))
    if (processes := launched_processes()) > 1:
        console.print(f"{processes} processes share each step")
    with progress_bars(console) as listen:
        started_from = None if start is None else read_start(start)
        run_training(read, output, backbone, recipe, start=started_from, listen=listen)
    prompt = " with ".join(s.word for s in read.samples[:2])
    console.print(f'done: {output}\ntry: magictailor generate {output} "{prompt}"')


@app.command()
def ask(
    run: Annotated[Path, typer.Argument(help="The folder of a run that is being trained.", show_default=False)],
    request: Annotated[str, typer.Argument(help="What to ask for: stop, preview or checkpoint.", show_default=False)],
) -> None:
    """Ask a run that is being trained to stop, to generate a preview or to write a checkpoint now."""
    from magictailor.training.requests import ask as write_request

    write_request(run, request)  # type: ignore[arg-type]
    console.print(f"asked: {request}, after the current step")


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)],
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help='Prompts, for instance "<person> with <hair>, on the beach".', show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the images; default: RUN/images.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="One of the paper's sets of prompts; magictailor recipes lists them.")
    ] = None,
    number: Annotated[int, typer.Option(help="Number of images per prompt.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the first image; each further image has the next number.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; default: the recipe's.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Classifier-free guidance scale; default: the recipe's.")
    ] = None,
    emphasis: Annotated[
        float | None, typer.Option(help="How strongly to emphasise the component, 0 to 2; default: the recipe's.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Scheduler: ddim (default), dpm++, dpm++-karras or sde-dpm++; for flow matching own (default), euler or dpm++."
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Number of images at a time; default: the preset's.")] = None,
    image: ImageOption = None,
    strength: Strength = None,
    region: Region = None,
    control: Controls = None,
    control_map: ControlMaps = None,
    control_model: ControlModel = None,
    control_strength: ControlStrength = 1.0,
    control_start: ControlStart = 0.0,
    control_end: ControlEnd = 1.0,
    style: StyleImage = None,
    style_strength: StyleStrength = None,
    style_layers: StyleLayers = None,
    style_model: StyleModel = None,
    style_encoder: StyleEncoder = None,
    style_checkout: StyleCheckout = None,
    loras: LoRAs = None,
    device: Device = None,
    precision: Precision = None,
    preset: Preset = None,
    compiled: Compiled = False,
) -> None:
    """Generate images with a run's pseudo-words: PNGs with prompt and seed inside, and a contact sheet."""
    with spinner("loading"):
        from magictailor.backbones.community_lora import community_lora
        from magictailor.common.files import output_folder
        from magictailor.generation.checks import check_numbers
        from magictailor.generation.studies import asked_prompts
        from magictailor.training.run_folder import finished_run

        following = controls(
            control or (), control_map or (), control_model, control_strength, control_start, control_end
        )
        styled = style_image(style, style_strength, style_layers, style_model, style_encoder, style_checkout)
        specs = [*starting_picture(image, strength, region), *following, *styled]
        asked = asked_prompts(prompts or (), study, list(finished_run(run)[1].words))
        for spec in specs:  # before torch is imported
            spec.check()
        for text in loras or ():
            community_lora(text)
        check_numbers(len(asked), number, seed, steps, guidance, emphasis, batch)
        target = output_folder(output or run / "images")

        from magictailor.api import load
        from magictailor.generation.images import save_images

        options = {"device": device, "precision": precision, "preset": preset, "compiled": compiled}
        loaded = load(run, loras or (), listen=print_notices(console), **options)  # type: ignore[arg-type]
    with progress_bars(console) as listen:
        images = loaded.generate(
            asked, number=number, seed=seed, steps=steps, guidance=guidance, emphasis=emphasis, scheduler=scheduler,
            batch=batch, attachments=specs, listen=listen,
        )  # fmt: skip
        paths = save_images(images, target)
    console.print(f"{len(paths)} images and a contact sheet in {target}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The demo's folder.")] = Path("magictailor-demo"),
    pair: Annotated[int | None, typer.Option(help="The seed of another pair of the world.", show_default=False)] = None,
    model: Annotated[
        Literal["embedded", "embedded-dit"],
        typer.Option(help="Base model: embedded (a U-Net) or embedded-dit (a transformer)."),
    ] = "embedded",
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="Show the page in a browser, where there is one.")
    ] = True,
) -> None:
    """Render a pair of the world, train on it, and open one page that shows the result."""
    import webbrowser

    with spinner("loading"):
        from magictailor.common.files import output_folder

        output_folder(output)  # before torch is imported
        from magictailor.demo import PAIR, run_demo
    with progress_bars(console) as listen:
        page = run_demo(output, PAIR if pair is None else pair, listen, model=model)
    console.print(f"the page: {page.resolve()}")
    if show and sys.stdout.isatty():  # not where nobody looks: in a script, or under a test
        webbrowser.open(page.resolve().as_uri())
