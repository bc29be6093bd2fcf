"""The command line: thin shells over the Python functions."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from magictailor.cli import bench, files, photos, research, studio, study, work, world
from magictailor.cli.ending import INTERRUPTED, MISTAKE, stop, terminated
from magictailor.cli.output import Output
from magictailor.common.errors import RunError
from magictailor.common.launcher import launched_processes
from magictailor.common.logging import quiet_libraries

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Component-controllable personalization of text-to-image diffusion models.",
)
app.add_typer(photos.app)
app.add_typer(work.app)
app.add_typer(files.app)
app.add_typer(research.app)
app.add_typer(studio.app)
app.add_typer(world.app, name="world")
app.add_typer(bench.app, name="bench")
app.add_typer(study.app, name="study")


def _print_version(asked: bool) -> None:
    if asked:
        from magictailor import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of no command in particular."""


def _without_arguments(error: BaseException) -> bool:
    """Whether a group of commands was called without a command: its help is the answer."""
    return type(error).__name__ == "NoArgsIsHelpError"


@contextmanager
def _outputs() -> Iterator[Output]:
    """Streams that survive closed pipes and consoles without Unicode; yields the one of stdout."""
    before = sys.stdout, sys.stderr
    out = Output(sys.stdout)
    sys.stdout, sys.stderr = out, Output(sys.stderr)  # type: ignore[assignment]
    try:
        yield out
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def _ended_politely() -> Iterator[None]:
    """Inside, SIGTERM puts everything away, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run() -> int:
    """The exit code of the command that was typed."""
    try:
        launched_processes()  # refuses numbers that contradict each other
        return int(app(standalone_mode=False) or 0)
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if _without_arguments(error):
            print(error.ctx.get_help())  # type: ignore[attr-defined]
            return MISTAKE
        stop(error)


def main() -> None:
    """Errors become one line: exit code 2 for bad input, 1 for a run that cannot continue, 70 for a bug of ours."""
    quiet_libraries()
    with _outputs() as out:
        with _ended_politely():
            code = _run()
        if code == INTERRUPTED:  # what typer makes of Ctrl-C
            stop(KeyboardInterrupt())
        out.flush()
        if out.is_lost:
            stop(RunError(f"the output could not be written ({out.failure}); all else the command did is complete"))
    sys.exit(code)
