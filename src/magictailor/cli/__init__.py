"""The command line: thin shells over the Python functions."""

import logging
import os
import sys
import warnings
from typing import NoReturn

import typer

from magictailor.cli import bench, files, research, studio, study, work, world
from magictailor.common.errors import InputError, RunError, RunStopped

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(work.app)
app.add_typer(files.app)
app.add_typer(research.app)
app.add_typer(studio.app)
app.add_typer(world.app, name="world")
app.add_typer(bench.app, name="bench")
app.add_typer(study.app, name="study")


def _quiet() -> None:
    """Keep libraries' notes off the user's screen."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


# Where the command line's spelling of an argument differs from its name with dashes.
SPELLINGS = {
    "": "", "compiled": "--compile", "loras": "--lora", "settings": "--set", "scheduler_name": "--scheduler", "pair": "PAIR", "run": "RUN",
    "runs": "RUNS", "prompts": "PROMPT", "image": "IMAGE", "region": "REGION", "spec": "SPEC", "bench": "BENCH",
    "file": "FILE", "request": "REQUEST", "boxes": "--box", "counts": "--count", "root": "ROOT", "metrics": "--figures",
    "study": "STUDY", "raters": "RATERS", "names": "--name",
}  # fmt: skip


def _spelled(error: InputError) -> str:
    """The error's line with this command line's name of the argument."""
    return error.line(SPELLINGS.get(error.field, f"--{error.field.replace('_', '-')}"))


def _stop(code: int, message: str) -> NoReturn:
    if code == 1 or os.environ.get("RANK", "0") == "0":  # what one process refuses, all refuse
        print(("" if code == 130 else "error: ") + message.replace("\n", " "), file=sys.stderr)
    sys.exit(code)


def main() -> None:
    """Errors become one line: exit code 2 for bad input, 1 for a run that cannot go on."""
    _quiet()
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        _stop(2, _spelled(error))
    except RunStopped as error:
        _stop(130, str(error))
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
