"""Benches: run, status, table."""

from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.progress import bar
from magictailor.cli.shared import Device, Output, Precision, Preset, console, started
from magictailor.common.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Pairs x methods x prompts x seeds, in tables.")
SpecFile = Annotated[Path, typer.Argument(help="A TOML file: docs/bench.md.", show_default=False)]
Bench = Annotated[Path, typer.Option("--output", "-o", help="The bench's folder.", show_default=False)]


def listed(text: str) -> list[str]:
    """``a, b`` as two."""
    return [name.strip() for name in text.split(",") if name.strip()]


@app.command("run")
def run(
    spec: SpecFile, output: Output, device: Device = None, precision: Precision = None, preset: Preset = None
) -> None:
    """Train, draw and score all that is missing; several processes may work on one folder."""
    with started("reading"):
        from magictailor.common.files import output_folder
        from magictailor.evaluate.bench import run_bench
        from magictailor.evaluate.spec import read_spec, sources

        read = read_spec(spec)
        found = sources(read, spec.resolve().parent)
        home = output_folder(output)
        for source in found:
            if source.folder is not None:
                source.read(home)  # what cannot be read is refused before anything is trained
    with bar("units", console, keep=False) as watch:
        left = run_bench(read, found, home, watch, console.print, device=device, precision=precision, preset=preset)
    if left:
        console.print(f"{left} units are with other workers")
    console.print(f"try: magictailor bench table {home}")


@app.command("status")
def status(spec: SpecFile, output: Bench) -> None:
    """Which units are done, at work, or waiting."""
    from magictailor.evaluate.bench import status as told
    from magictailor.evaluate.spec import read_spec, sources

    read = read_spec(spec)
    for name, state in told(read, sources(read, spec.resolve().parent), output).items():
        console.print(f"{state:<18}{name}")


@app.command("table")
def table(
    bench: Annotated[Path, typer.Argument(help="A bench's folder.", show_default=False)],
    format: Annotated[str, typer.Option(help="text, markdown, latex or csv.")] = "text",
    paper: Annotated[str | None, typer.Option(help="The rows of this table of the paper: 1, 3, 5, 6 or 7.")] = None,
    figures: Annotated[str, typer.Option(help="Only these, in this order: text,identity,kid.")] = "",
) -> None:
    """Print what is finished: means over pairs with 95 % intervals, the best and the second-best marked, and costs."""
    from magictailor.evaluate.reporting.tables import FORMATS, make_table

    if format not in FORMATS:
        raise InputError(f"--format {format}: choose one of {', '.join(FORMATS)}")
    print(FORMATS[format](make_table(bench, paper, listed(figures))))


@app.command("claims")
def claims(
    bench: Annotated[Path, typer.Argument(help="A bench's folder.", show_default=False)],
    format: Annotated[str, typer.Option(help="text or markdown.")] = "text",
) -> None:
    """Print which of the paper's claims hold on the pairs that are finished, which not, and what could have been seen."""
    from magictailor.evaluate.reporting.contrasts import EACH, verdict_lines
    from magictailor.evaluate.reporting.tables import aligned, piped

    forms = {"text": aligned, "markdown": piped}
    if format not in forms:
        raise InputError(f"--format {format}: choose one of {', '.join(forms)}")
    lines = verdict_lines(bench)
    if len(lines) == 1:
        raise InputError(f"{bench}: no claim of the paper has both its methods finished on one pair")
    print("\n".join([*forms[format](lines), "", EACH]))


@app.command("report")
def report(
    bench: Annotated[Path, typer.Argument(help="A bench's folder.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="An HTML file to write.", show_default=False)],
    against: Annotated[str | None, typer.Option(help="Compare with this method; default: magictailor.")] = None,
) -> None:
    """Write one page that opens offline: the table, each method against one other, and pictures side by side."""
    from magictailor.common.files import output_file
    from magictailor.evaluate.reporting.report import write_report

    output_file("--output", output)
    console.print(f"open {write_report(bench, output, against).resolve()} in a browser")


@app.command("figure")
def figure(
    bench: Annotated[Path, typer.Argument(help="A bench's folder.", show_default=False)],
    number: Annotated[
        str,
        typer.Argument(
            help="Of the paper: 4, 8a, 8b, 9, 12 or 16; or the pictures of a table's methods: table-1.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A PNG to write.", show_default=False)],
    methods: Annotated[str, typer.Option(help="Pictures by these instead: magictailor,clic.")] = "",
    figures: Annotated[str, typer.Option(help="Curves of these alone: text,identity.")] = "",
) -> None:
    """Draw a figure of the paper from what is finished: figures over a setting, or pictures side by side."""
    with started("drawing"):
        from magictailor.common.files import output_file
        from magictailor.common.pictures import save_png
        from magictailor.evaluate.reporting.figures import draw_figure

        output_file("--output", output)
        save_png(draw_figure(bench, number, listed(methods), listed(figures)), output)
    console.print(f"wrote {output}")
