"""Routes for jobs, and what there is to choose from."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from magictailor.generation.protocol import CONTEXTS, TREATMENTS, VIEWS
from magictailor.methods import CATALOGUE
from magictailor.recipe import Recipe
from magictailor.studio.assistant import models
from magictailor.studio.jobs import Spec, TrainSpec
from magictailor.studio.jobs.job import LOG_FILE, RUN, run_folder
from magictailor.studio.jobs.store import Action
from magictailor.studio.live import curves, previews
from magictailor.studio.server.shared import TheStudio, image_file
from magictailor.studio.studio import Studio

router = APIRouter(prefix="/api")
LOG_BYTES = 200_000
FORMATS = {
    "diffusers": "a folder for diffusers and Python",
    "kohya": "A1111, Forge, sd-scripts and ComfyUI",
    "comfyui": "ComfyUI, by its own keys",
    "merged": "a whole diffusers pipeline",
    "checkpoint": "a whole model in one file, for A1111 and ComfyUI",
}
PRESETS = ("8gb", "12gb", "16gb", "24gb", "fast")


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NewJob(Body):
    spec: Spec
    title: Annotated[str, Field(max_length=200)] = ""


class JobChange(Body):
    """A new title; or ``move``: before another job, or at the end (null)."""

    title: Annotated[str, Field(max_length=200)] | None = None
    move: bool = False
    before: Annotated[str, Field(max_length=80)] | None = None


def choices(studio: Studio) -> dict[str, Any]:
    """Bases, LoRAs, methods, segmentation models, formats, prompts, cards."""
    methods = [
        {"group": group, "name": name, "summary": method.summary}
        for group, named in CATALOGUE.items()
        for name, method in named.items()
    ]
    prompts = {"contexts": CONTEXTS, "styles": TREATMENTS, "views": VIEWS}
    return {
        **studio.allowed.listed(), "methods": methods, "segmenters": models(), "formats": FORMATS,
        "prompts": prompts, "cards": studio.cards, "presets": PRESETS, "targets": list(studio.allowed.exports),
    }  # fmt: skip


@router.get("/recipe")
def recipe(
    studio: TheStudio,
    method: Annotated[str, Query(max_length=80)] = "magictailor",
    model: Annotated[str, Query(max_length=300)] = "embedded",
) -> dict[str, Any]:
    """A method's recipe on a base, and the schema that a form is made from."""
    return {"recipe": studio.recipe(method, model).dump(), "schema": Recipe.model_json_schema()}


@router.post("/expectation")
def expectation(studio: TheStudio, spec: TrainSpec) -> dict[str, Any]:
    """What a training is expected to take; nothing is written."""
    return asdict(studio.expect(spec))


@router.get("/jobs")
def list_jobs(studio: TheStudio) -> list[dict[str, Any]]:
    return studio.live.describe_all()


@router.post("/jobs", status_code=201)
def submit(studio: TheStudio, new: NewJob) -> dict[str, Any]:
    return studio.live.describe(studio.submit(new.spec, new.title))


@router.get("/jobs/{id}")
def read_job(studio: TheStudio, id: str) -> dict[str, Any]:
    return studio.live.describe(studio.jobs.status(id))


@router.patch("/jobs/{id}")
def change_job(studio: TheStudio, id: str, change: JobChange) -> dict[str, Any]:
    if change.title is not None:
        studio.jobs.rename(id, change.title)
    if change.move:
        studio.jobs.move(id, change.before)
    return read_job(studio, id)


@router.delete("/jobs/{id}", status_code=204)
def delete_job(studio: TheStudio, id: str) -> None:
    studio.jobs.remove(id)


@router.post("/jobs/resume")
def resume_all(studio: TheStudio) -> dict[str, Sequence[str]]:
    return {"resumed": studio.runner.resume_interrupted()}


@router.post("/jobs/{id}/kill")
def kill(studio: TheStudio, id: str) -> dict[str, Any]:
    studio.runner.kill(id)
    return read_job(studio, id)


@router.post("/jobs/{id}/{action}")
def act(studio: TheStudio, id: str, action: Action) -> dict[str, Any]:
    return studio.live.describe(studio.jobs.act(id, action))


@router.get("/jobs/{id}/curves")
def get_curves(studio: TheStudio, id: str) -> dict[str, Any]:
    return curves(studio.jobs.folder(id))


@router.get("/jobs/{id}/previews")
def get_previews(studio: TheStudio, id: str) -> list[dict[str, Any]]:
    return [{"step": step, "files": files} for step, files in previews(studio.jobs.folder(id)).items()]


@router.get("/jobs/{id}/previews/{file}")
def get_preview(studio: TheStudio, id: str, file: str) -> FileResponse:
    return image_file(studio.job_file(id, RUN, run_folder(studio.jobs.folder(id)).name, "previews", file), fixed=False)


@router.get("/jobs/{id}/log")
def get_log(studio: TheStudio, id: str) -> PlainTextResponse:
    """The end of what the job's process printed."""
    path = studio.jobs.folder(id) / LOG_FILE
    content = path.read_bytes()[-LOG_BYTES:] if path.is_file() and not path.is_symlink() else b""
    return PlainTextResponse(content.decode("utf-8", "replace"), headers={"Cache-Control": "no-store"})


@router.get("/jobs/{id}/export.zip")
def get_export(studio: TheStudio, id: str) -> FileResponse:
    return FileResponse(studio.job_file(id, "export.zip"), filename=f"{id}.zip", media_type="application/zip")
