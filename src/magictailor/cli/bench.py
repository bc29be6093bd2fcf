"""Commands of benches."""

from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.progress import progress_bars
from magictailor.cli.shared import Device, Precision, Preset, console, spinner
from magictailor.common.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Compare methods on many pairs.")
SpecFile = Annotated[Path, typer.Argument(help="A TOML file; see docs/bench.md.", show_default=False)]
BenchArgument = Annotated[str, typer.Argument(help="A bench's folder or URL.", show_default=False)]
Bench = Annotated[str, typer.Option("--output", "-o", help="The bench's folder or URL.", show_default=False)]


def split(text: str) -> list[str]:
    """``a, b`` becomes ``["a", "b"]``."""
    return [name.strip() for name in text.split(",") if name.strip()]


@app.command("run")
def run(
    spec: SpecFile,
    output: Bench,
    workers: Annotated[int, typer.Option(help="Number of processes on this machine.")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="A Ray cluster: HOST:PORT, auto, or local to start one here.", show_default=False)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Number of CPU threads for each unit; the same number gives the same bytes.")
    ] = None,
    card_gb: Annotated[
        float | None, typer.Option(help="Memory of each GPU of the cluster, in GB, so that units can share GPUs.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show what is missing and its cost, and write nothing.")
    ] = False,
    device: Device = None,
    precision: Precision = None,
    preset: Preset = None,
) -> None:
    """Train, generate and score everything that is missing."""
    from magictailor.evaluate.sources import sources
    from magictailor.evaluate.spec import read_spec
    from magictailor.evaluate.stores import open_store
    from magictailor.evaluate.workers import Workers

    own = Workers(workers, ray, threads, card_gb)  # before torch is imported
    plan = read_spec(spec)
    pairs = sources(plan, spec.resolve().parent)
    store = open_store(output)
    with spinner("reading"):
        from magictailor.evaluate.bench import bench_forecast, run_bench

        for pair in pairs:
            if pair.folder is not None:
                pair.read(pair.folder)  # refuse unreadable pairs before any training
    if dry_run:
        lines = bench_forecast(plan, pairs, output, own, device=device, precision=precision, preset=preset)
        console.print("\n".join(lines))
        return
    with progress_bars(console, keep=False) as listen:
        run_bench(plan, pairs, output, listen, own, device=device, precision=precision, preset=preset)
    console.print(f"try: magictailor bench table {store.location}")


@app.command("status")
def status(
    spec: SpecFile,
    output: Bench,
    every: Annotated[bool, typer.Option("--all", help="Also show the state of each pair and method.")] = False,
) -> None:
    """Show which units are done, running, failed or waiting, and the time that is left; from any machine."""
    from magictailor.evaluate.sources import sources
    from magictailor.evaluate.spec import read_spec

    plan = read_spec(spec)
    pairs = sources(plan, spec.resolve().parent)
    from magictailor.evaluate.status import bench_status, status_lines

    for line in status_lines(bench_status(plan, pairs, output), every):
        console.print(line)


@app.command("table")
def table(
    bench: BenchArgument,
    format: Annotated[str, typer.Option(help="Format of the table: text, markdown, latex or csv.")] = "text",
    paper: Annotated[
        str | None, typer.Option(help="Only the rows of this table of the paper: 1, 3, 5, 6 or 7.")
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Only these metrics, in this order, for instance text,identity,kid; default: all.")
    ] = "",
) -> None:
    """Print the finished units: means over pairs with 95 % intervals, the best and second-best marked, and costs."""
    from magictailor.evaluate.reporting.formats import FORMATS
    from magictailor.evaluate.reporting.tables import make_table
    from magictailor.evaluate.stores import bench_files

    if format not in FORMATS:
        raise InputError(f"{format}: no such format", f"choose one of {', '.join(FORMATS)}", field="format")
    with bench_files(bench, "results", "costs") as home:
        print(FORMATS[format](make_table(home, paper, split(metrics))))


@app.command("claims")
def claims(
    bench: BenchArgument,
    format: Annotated[str, typer.Option(help="Format of the table: text or markdown.")] = "text",
) -> None:
    """Print which of the paper's claims hold on the finished pairs, and how large a difference is detectable."""
    from magictailor.evaluate.reporting.contrasts import MULTIPLICITY, verdict_lines, verdicts
    from magictailor.evaluate.reporting.formats import aligned, piped
    from magictailor.evaluate.reporting.paper import ABLATION_CLAIMS, CLAIMS
    from magictailor.evaluate.stores import bench_files

    formats = {"text": aligned, "markdown": piped}
    if format not in formats:
        raise InputError(f"{format}: no such format", f"choose one of {', '.join(formats)}", field="format")
    with bench_files(bench, "results") as home:
        tables = [verdict_lines(verdicts(home, claims=claims)) for claims in (CLAIMS, ABLATION_CLAIMS)]
    tables = [lines for lines in tables if len(lines) > 1]
    if not tables:
        problem = f"{bench}: no claim of the paper has both its methods finished on one pair"
        raise InputError(problem, "add methods to the spec and run the bench again", field="bench")
    for lines in tables:
        print("\n".join([*formats[format](lines), ""]))
    print(MULTIPLICITY)


@app.command("report")
def report(
    bench: BenchArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.", show_default=False)],
    against: Annotated[str | None, typer.Option(help="Compare with this method; default: magictailor.")] = None,
) -> None:
    """Write an HTML page that opens offline: the table, claims, each method against one other, and images."""
    from magictailor.common.files import output_file
    from magictailor.evaluate.reporting.report import write_report
    from magictailor.evaluate.stores import bench_files

    output_file(output, (".html", ".htm"))
    with bench_files(bench, "results", "costs", "images", "pairs", "design.json") as home:
        write_report(home, output, against, name=bench.rstrip("/").rpartition("/")[2])
    console.print(f"open {output.resolve()} in a browser")


@app.command("figure")
def figure(
    bench: BenchArgument,
    number: Annotated[
        str,
        typer.Argument(
            help="A figure of the paper: 4, 8a, 8b, 9, 12 or 16; or images of a table's methods: table-1.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.", show_default=False)],
    methods: Annotated[
        str, typer.Option(help="Draw images of these methods instead, for instance magictailor,clic.")
    ] = "",
    metrics: Annotated[str, typer.Option(help="Draw curves of these metrics only, for instance text,identity.")] = "",
) -> None:
    """Draw a figure of the paper from the finished units: metrics over a setting, or images side by side."""
    with spinner("drawing"):
        from magictailor.common.files import output_file
        from magictailor.common.pictures import MADE, PNG, save_png
        from magictailor.evaluate.reporting.figures import draw_figure
        from magictailor.evaluate.stores import bench_files

        output_file(output, PNG)
        with bench_files(bench, "results", "images", "pairs") as home:
            save_png(draw_figure(home, number, split(methods), split(metrics)), output, MADE)
    console.print(f"wrote {output}")
