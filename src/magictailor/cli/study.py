"""Commands of user studies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from magictailor.cli.bench import split
from magictailor.cli.progress import progress_bars
from magictailor.cli.shared import Output, console, spinner
from magictailor.common.errors import InputError

app = typer.Typer(
    no_args_is_help=True, help="Ask people which images are best: blinded pages, and the table of their choices."
)
StudyFolder = Annotated[Path, typer.Argument(help="A study's folder.", show_default=False, metavar="STUDY")]
Database = Annotated[
    str | None,
    typer.Option(
        help="Database of the answers: postgresql://USER@HOST/DATABASE; default: answers.sqlite in the study's folder."
    ),
]


@contextmanager
def _opened(folder: Path, database: str | None) -> Iterator[tuple[Any, Any]]:
    """The study and its database."""
    from magictailor.study.design import read_study
    from magictailor.study.store import opened

    study = read_study(folder)
    with opened(study, folder, database) as store:
        yield study, store


@app.command("make")
def make(
    bench: Annotated[Path, typer.Argument(help="A bench's folder.", show_default=False)],
    output: Output,
    groups: Annotated[
        int, typer.Option(help="Number of groups: screens that count, each of one pair and prompt.")
    ] = 20,
    seed: Annotated[int, typer.Option(help="Seed for choosing groups, evenly from all pairs.")] = 0,
    methods: Annotated[str, typer.Option(help="Only these methods, for instance magictailor,clic; default: all.")] = "",
    questions: Annotated[
        str,
        typer.Option(
            help="Questions on each screen: paper (three), or fine (identity of concept and component apart)."
        ),
    ] = "paper",
    choose: Annotated[
        str, typer.Option(help="What raters choose: best (of all images), or pair (the better of a random two).")
    ] = "best",
    tie: Annotated[bool, typer.Option("--tie", help='Allow "no difference".')] = False,
    cannot_say: Annotated[bool, typer.Option("--cannot-say", help='Allow "I cannot say".')] = False,
    checks: Annotated[int, typer.Option(help="Number of attention checks, whose answer is known.")] = 2,
    practice: Annotated[int, typer.Option(help="Number of practice screens, which do not count.")] = 1,
    invite: Annotated[int, typer.Option(help="Number of raters who get their own link; 0: one link for all.")] = 0,
    code: Annotated[bool, typer.Option("--code", help="Show a code at the end, as crowd platforms want it.")] = False,
    size: Annotated[int, typer.Option(help="Longest side of an image, in pixels.")] = 768,
    spec: Annotated[Path | None, typer.Option(help="The bench's TOML file, if pairs are not of the world.")] = None,
) -> None:
    """Make a study from a finished bench: one folder with a study.toml to read and change, and the images."""
    with spinner("reading"):
        from magictailor.study.design import Answering, Entry
        from magictailor.study.make import MakeOptions, make_study

        if choose not in ("best", "pair"):
            raise InputError(f"{choose}: unknown", "choose best or pair", field="choose")
        if not 0 <= invite <= 10_000:
            raise InputError(f"{invite}: out of range", "choose 0 .. 10000", field="invite")
        if invite and code:
            raise InputError("no effect with --invite", "leave one of them out", field="code")
        answering = Answering(choose="pair" if choose == "pair" else "best", tie=tie, cannot_say=cannot_say)
        entry = Entry(mode="invited" if invite else "crowd" if code else "open", invitations=invite)
        options = MakeOptions(
            groups=groups, seed=seed, methods=tuple(split(methods)), questions=questions, answering=answering, entry=entry,
            checks=checks, practice=practice, size=size, spec=spec,
        )  # fmt: skip
    with progress_bars(console, keep=False) as listen:
        study = make_study(bench, output, options, listen)
    console.print(f"{len(study.counted)} groups of {len(study.methods)} methods; read {output / 'study.toml'}")
    console.print(f"try: magictailor study serve {output}")


@app.command("serve")
def serve(
    folder: StudyFolder,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 also serves other computers.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = 8000,
    database: Database = None,
    name: Annotated[list[str] | None, typer.Option(help="A host name that raters use; repeatable.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Public base URL of the links, for instance https://study.example.org.")
    ] = None,
) -> None:
    """Serve a study's pages. Every answer is on disk before it is acknowledged."""
    from magictailor.study.serving import serve_study

    serve_study(folder, host=host, port=port, database=database, names=name or (), address=address, ready=console.print)


@app.command("page")
def page(folder: StudyFolder, output: Output) -> None:
    """Write a study as a folder of static files, for any host or an e-mail; raters send a file back."""
    from magictailor.study.design import read_study
    from magictailor.study.page import write_page

    console.print(f"open {write_page(read_study(folder), folder, output).resolve() / 'index.html'} in a browser")


@app.command("add")
def add(
    folder: StudyFolder,
    files: Annotated[list[Path], typer.Argument(help="Files that raters sent back.", show_default=False)],
    database: Database = None,
) -> None:
    """Take in answers from a static page: all files or none, and no answer is added twice."""
    from magictailor.study.adding import add_answers

    with _opened(folder, database) as (study, store):
        taken = add_answers(study, store, files)
    for added in taken:
        console.print(f"{added.file}: {added.new} new answers of {added.rater}, {added.known} known")


@app.command("table")
def table(
    folder: StudyFolder,
    format: Annotated[str, typer.Option(help="Format of the table: text, markdown, latex or csv.")] = "text",
    figure: Annotated[Path | None, typer.Option(help="Also draw the shares into this PNG file.")] = None,
    database: Database = None,
) -> None:
    """Print the paper's Table 2 next to ours: shares of choices with 95 % intervals, tests, strengths and agreement."""
    from magictailor.study.table import FORMATS

    if format not in FORMATS:
        raise InputError(f"{format}: no such format", f"choose one of {', '.join(FORMATS)}", field="format")
    from magictailor.common.files import output_file
    from magictailor.common.pictures import MADE, PNG, save_png
    from magictailor.study.analysis import analyse

    if figure is not None:
        output_file(figure, PNG, field="figure")
    with _opened(folder, database) as (study, store):
        analysis = analyse(study, store.answers())
    print(FORMATS[format](analysis))
    if figure is not None:
        from magictailor.study.figures import draw_shares

        save_png(draw_shares(analysis), figure, MADE)


@app.command("plan")
def plan(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A study whose answers say how raters differ.", show_default=False, metavar="[STUDY]"),
    ] = None,
    difference: Annotated[
        float, typer.Option(help="Difference to detect between two methods' shares, in percentage points.")
    ] = 10,
    methods: Annotated[int, typer.Option(help="Number of methods: images to choose from on each screen.")] = 6,
    groups: Annotated[int, typer.Option(help="Number of groups: 10, 20, 30, 40 or 60.")] = 20,
    power: Annotated[float, typer.Option(help="Desired power, 0.5 .. 0.99.")] = 0.8,
    rater_spread: Annotated[float, typer.Option(help="How much raters differ; pure chance: 1.28.")] = 0.5,
    group_spread: Annotated[float, typer.Option(help="How much groups differ; pure chance: 1.28.")] = 0.5,
    database: Database = None,
) -> None:
    """Print how many raters and groups are needed to show a difference between two methods."""
    from magictailor.study.plan import plan_study
    from magictailor.study.results import Results

    pilot = None
    if folder is not None:
        with _opened(folder, database) as (study, store):
            pilot = Results(study, store.answers())
    print(
        plan_study(
            difference=difference, methods=methods, groups=groups, wanted=power, rater_spread=rater_spread,
            group_spread=group_spread, pilot=pilot,
        )
    )  # fmt: skip


@app.command("erase")
def erase(
    folder: StudyFolder,
    raters: Annotated[list[str], typer.Argument(help="Numbers or links of the raters to remove.", show_default=False)],
    database: Database = None,
) -> None:
    """Remove raters with all their answers."""
    from magictailor.study.raters import rater_named

    with _opened(folder, database) as (_, store):
        names = [rater_named(text) for text in raters]
        console.print(f"{store.erase(names)} of {len(set(names))} raters removed")


@app.command("export")
def export(
    folder: StudyFolder,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="JSON file to write; for other tools, a new folder.", show_default=False),
    ],
    format: Annotated[str, typer.Option(help="Format of the export: json, label-studio or potato.")] = "json",
    database: Database = None,
) -> None:
    """Write all answers as JSON with a data dictionary, or the study itself for Label Studio or potato."""
    from magictailor.study.design import read_study
    from magictailor.study.export import export_for_tool, export_json

    if format == "json":
        with _opened(folder, database) as (study, store):
            console.print(f"{export_json(study, folder, store, output)} answers in {output}")
    else:
        console.print(f"wrote {export_for_tool(read_study(folder), folder, format, output)}; see its README.txt")
