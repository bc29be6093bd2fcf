"""The studio: from photos to a LoRA in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from magictailor.cli.shared import console, spinner
from magictailor.common.errors import InputError

app = typer.Typer()


def read_targets(texts: list[str]) -> dict[str, Path]:
    """``["comfyui=/path"]`` by name. Raises InputError for other forms."""
    targets = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not name or not equals or not folder:
            raise InputError(
                f"{text}: not a folder with a name", "write NAME=FOLDER, like comfyui=ComfyUI/models", field="export_to"
            )
        targets[name] = Path(folder).expanduser()
    return targets


@app.command()
def studio(
    root: Annotated[Path, typer.Argument(help="The studio's folder; it is made if needed.")] = Path("studio"),
    demo: Annotated[bool, typer.Option("--demo", help="Open with a pair of the world, ready to train.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 also serves other computers.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = 7860,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Serve without a secret in the address; for this computer only.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume interrupted jobs.")] = False,
    models: Annotated[Path | None, typer.Option(help="Folder of base models; default: ROOT/models.")] = None,
    loras: Annotated[Path | None, typer.Option(help="Folder of community LoRAs; default: ROOT/loras.")] = None,
    export_to: Annotated[
        list[str] | None, typer.Option(help="A folder that exports may go to, NAME=FOLDER; repeatable.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
) -> None:
    """Open the studio in the browser: photos, masks, training, images and exports on one page."""
    import webbrowser

    targets = read_targets(export_to or [])
    with spinner("opening the studio"):
        from magictailor.studio.serving import serve_studio

    def ready(address: str) -> None:
        console.print(f"the studio is at\n{address}\nCtrl-C closes it; trainings continue", soft_wrap=True)
        if not no_open:
            webbrowser.open(address)

    serve_studio(
        root, host=host, port=port, token=not no_token, demo=demo, resume=resume, models=models, loras=loras,
        exports=targets, ready=ready,
    )  # fmt: skip
