"""What each kind of job does: thin shells over the package's Python functions."""

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Notice, Progress
from magictailor.common.files import append_lines, json_lines, write_atomically
from magictailor.common.pictures import save_png
from magictailor.studio.jobs.job import (
    IMAGES,
    IMAGES_FILE,
    PAIR,
    THUMBS,
    ExportSpec,
    GenerateSpec,
    Job,
    MasksSpec,
    TrainSpec,
    result_folder,
    run_folder,
)
from magictailor.studio.machine import machine
from magictailor.studio.workspace import AllowedFolders

THUMB = 256  # pixels


def do(job: Job, folder: Path, allowed: AllowedFolders, listen: Listener) -> dict[str, Any]:
    """Do a job and return its result, which JSON can hold.

    Args:
        allowed: the owner's folders.

    Raises:
        InputError, RunError: as the functions of the package do.
        RunStopped: pause or stop was wanted.
    """
    spec = job.spec
    listen(Notice("loading"))
    if isinstance(spec, TrainSpec):
        return _train(spec, folder, allowed, listen)
    if isinstance(spec, GenerateSpec):
        return _generate(spec, folder, allowed, listen)
    if isinstance(spec, MasksSpec):
        return _masks(spec, folder, listen)
    return _export(spec, folder, allowed, listen)


def _train(spec: TrainSpec, folder: Path, allowed: AllowedFolders, listen: Listener) -> dict[str, Any]:
    from magictailor.api import personalize

    start = None if spec.start is None else result_folder(folder.parent, spec.start)
    run = personalize(
        folder / PAIR, run_folder(folder), model=allowed.model(spec.model), method=spec.method, settings=spec.settings,
        loras=[allowed.lora(name) for name in spec.loras], start=start, listen=listen, device=spec.device, precision=spec.precision, preset=spec.preset,
    )  # fmt: skip
    sampling = run.recipe.sampling
    return {
        "words": run.words,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "emphasis": sampling.emphasis,
        "machine": machine(),
    }


def _generate(spec: GenerateSpec, folder: Path, allowed: AllowedFolders, listen: Listener) -> dict[str, Any]:
    """Pictures that are there already are kept: a stopped batch goes on with the next one.

    One at a time, so that each can be seen at once, and so that those after an interruption equal those without it.
    """
    from magictailor.api import load

    images = folder / IMAGES_FILE
    rows = json_lines(images.read_text("utf-8", "replace")) if images.exists() else []
    made = {(row["run"], row["prompt"], row["seed"]) for row in rows}
    total, done = len(spec.runs) * len(spec.prompts) * spec.number, len(made)
    listen(Progress("generating", done, total))
    for name in spec.runs:
        missing = [
            (prompt, seed)
            for prompt in spec.prompts
            for seed in range(spec.seed, spec.seed + spec.number)
            if (name, prompt, seed) not in made
        ]
        if not missing:
            continue
        run = load(result_folder(folder.parent, name), [allowed.lora(text) for text in spec.loras], listen)
        for prompt in dict.fromkeys(prompt for prompt, _ in missing):
            seeds = [seed for text, seed in missing if text == prompt]
            for item in run.generate(
                prompt, number=len(seeds), seed=seeds[0], steps=spec.steps, guidance=spec.guidance,
                emphasis=spec.emphasis, scheduler=spec.scheduler, batch=1,
            ):  # fmt: skip
                done += 1
                _keep(item.image, {"run": name, **asdict(item.record)}, folder, done)
                listen(Progress("generating", done, total))
    return {"images": done}


def _keep(image: Image.Image, record: dict[str, Any], folder: Path, number: int) -> None:
    """The picture with its record in its metadata, a small copy for the gallery, and then its line in the list."""
    name = f"{number:05d}"
    save_png(image, folder / IMAGES / f"{name}.png", {k: str(v) for k, v in record.items()})
    if max(image.size) > THUMB:
        small = image.copy()
        small.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
        write_atomically(folder / THUMBS / f"{name}.webp", lambda path: small.save(path, "WEBP", quality=85))
    size = {"width": image.width, "height": image.height}
    append_lines(folder / IMAGES_FILE, [json.dumps({"name": name, **size, **record}, ensure_ascii=False)])


def _masks(spec: MasksSpec, folder: Path, listen: Listener) -> dict[str, Any]:
    from magictailor.segmentation import load_segmenter, make_masks

    pair = folder.parent.parent / "pairs" / spec.pair
    made = make_masks(
        pair, load_segmenter(spec.model), threshold=spec.threshold, counts=spec.counts, soft=spec.soft,
        overwrite=spec.overwrite, listen=listen,
    )  # fmt: skip
    rows = [{"photo": m.image.name, "label": m.label, "missing": m.missing, "score": m.score, "coverage": m.coverage, "note": m.note} for m in made]  # fmt: skip
    return {"masks": rows}


def _export(spec: ExportSpec, folder: Path, allowed: AllowedFolders, listen: Listener) -> dict[str, Any]:
    """One zip with a folder for each tool; an interrupted export begins again."""
    from magictailor.exports import export

    if spec.target is not None and spec.target not in allowed.exports:
        known = ", ".join(allowed.exports) or "none"
        raise InputError(f"{spec.target}: not a folder that this studio may write to (it has {known})", "choose another", field="target")  # fmt: skip
    work = folder / "files"
    shutil.rmtree(work, ignore_errors=True)
    total = len(spec.formats) + 1
    for done, format in enumerate(spec.formats):
        listen(Progress("exporting", done, total))
        bundle = spec.bundle and format == "kohya"
        export(result_folder(folder.parent, spec.run), work / format, format, bundle=bundle, half=spec.half)
    listen(Progress("exporting", len(spec.formats), total))
    write_atomically(folder / "export.zip", _zipper(work))
    if spec.target is not None:
        _copy(work, allowed.exports[spec.target], result_folder(folder.parent, spec.run))
    listen(Progress("exporting", total, total))
    files = [p.relative_to(work).as_posix() for p in sorted(work.rglob("*")) if p.is_file()]
    return {"files": files, "bytes": (folder / "export.zip").stat().st_size, "target": spec.target}


def _zipper(work: Path) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # weights do not compress
            for file in sorted(p for p in work.rglob("*") if p.is_file()):
                archive.write(file, file.relative_to(work).as_posix())

    return write


def _copy(work: Path, target: Path, run: Path) -> None:
    """Into a new folder of the target, named after the run."""
    for number in range(1, 10_000):
        goal = target / (f"magictailor-{run.name}" + (f"-{number}" if number > 1 else ""))
        if not goal.exists():
            shutil.copytree(work, goal)
            return
