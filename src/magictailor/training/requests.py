"""What another process may ask of a run: an empty file in its folder, which the run removes when it has done it."""

from pathlib import Path
from typing import Literal, get_args

from magictailor.common.errors import InputError, check_choice
from magictailor.common.files import write_text
from magictailor.training.run_folder import is_finished, read_run

RunRequest = Literal["stop", "preview", "checkpoint"]
FOLDER = "requests"


def ask(run: Path | str, request: RunRequest) -> None:
    """Ask a run that is being trained to stop, to generate a preview or to write a checkpoint after its current step.

    Raises:
        InputError: no run there, a finished one, or an unknown request.
    """
    folder = Path(run)
    check_choice(request, get_args(RunRequest), "request")
    read_run(folder)
    if is_finished(folder):
        raise InputError(f"{folder}: the run is finished", "requests work only while a run is training", field="run")
    write_text(folder / FOLDER / request, "")


def take_requests(folder: Path) -> set[str]:
    """The requests since the last call."""
    asked = folder / FOLDER
    if not asked.is_dir():
        return set()
    found = {path for path in asked.iterdir() if path.name in get_args(RunRequest)}
    for path in found:
        path.unlink(missing_ok=True)
    return {path.name for path in found}
