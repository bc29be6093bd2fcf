"""Routes for what was generated."""

import zipfile
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from magictailor.studio.server.shared import TheStudio, image_file
from magictailor.studio.workspace import checked_name

router = APIRouter(prefix="/api")
Id = Annotated[str, Field(max_length=200)]


class Marks(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ids: list[Id] = Field(min_length=1, max_length=2000)
    favourite: bool | None = None
    deleted: bool | None = None


@router.get("/gallery")
def find(
    studio: TheStudio,
    text: Annotated[str, Query(max_length=300)] = "",
    favourite: bool = False,
    job: Annotated[list[str] | None, Query(max_length=50)] = None,
    prompt: Annotated[list[Annotated[str, Field(max_length=500)]] | None, Query(max_length=25)] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 200,
) -> dict[str, Any]:
    return studio.gallery.find(
        text, favourite=favourite, jobs=job or (), prompts=prompt or (), offset=offset, limit=limit
    )


@router.post("/gallery/marks", status_code=204)
def mark(studio: TheStudio, marks: Marks) -> None:
    studio.gallery.mark(marks.ids, favourite=marks.favourite, deleted=marks.deleted)
    studio.live.publish(("gallery", marks.model_dump()))


@router.post("/gallery/empty-bin")
def empty_bin(studio: TheStudio) -> dict[str, int]:
    return {"removed": studio.gallery.empty_bin()}


@router.get("/images/{job}/{name}")
def image(studio: TheStudio, job: str, name: str, download: bool = False) -> FileResponse:
    path = studio.gallery.file(job, checked_name(name))
    if download:
        return FileResponse(path, filename=f"{job}-{name}.png")
    return image_file(path, fixed=True)


@router.get("/images/{job}/{name}/thumb")
def thumb(studio: TheStudio, job: str, name: str) -> FileResponse:
    return image_file(studio.gallery.file(job, checked_name(name), thumb=True), fixed=True)


@router.get("/gallery/pictures.zip")
def download(studio: TheStudio, id: Annotated[list[Id], Query(max_length=500)]) -> StreamingResponse:
    """Pictures in one file; each holds its record."""
    paths = []
    for text in id:
        job, _, name = text.partition("/")
        paths.append((f"{job}-{name}.png", studio.gallery.file(job, checked_name(name))))
    content = SpooledTemporaryFile(max_size=2**26)  # noqa: SIM115 - closed when it has been sent
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for shown, path in paths:
            archive.write(path, shown)
    content.seek(0)

    def parts() -> Iterator[bytes]:
        with content:
            while part := content.read(2**16):
                yield part

    headers = {"Content-Disposition": 'attachment; filename="pictures.zip"'}
    return StreamingResponse(parts(), media_type="application/zip", headers=headers)
