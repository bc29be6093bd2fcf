"""What an export may be asked for; checked before anything large is imported."""

from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.common.files import check_new
from magictailor.training.run_folder import finished_run

FORMATS = ("diffusers", "kohya", "comfyui", "merged", "checkpoint")


def check_export(run: Path | str, output: Path | str, format: str, bundle: bool) -> None:
    """Raises InputError: no finished run, an unknown format, a bundle of another format than kohya's, a folder that is full."""
    finished_run(run)
    if format not in FORMATS:
        raise InputError(f"{format}: not a format", f"choose one of {', '.join(FORMATS)}", field="format")
    if bundle and format != "kohya":
        raise InputError(
            f"with format {format}: only kohya's LoRA files hold embeddings", "leave it out", field="bundle"
        )
    check_new(output)
