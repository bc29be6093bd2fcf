"""Routes for pairs, photos and masks."""

import io
import zipfile
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from magictailor.common.errors import InputError
from magictailor.studio.adoption import adopt_from_world
from magictailor.studio.masks import checked_other, mask_path, remove_mask, save_mask
from magictailor.studio.pair_file import MASKS
from magictailor.studio.pairs import THUMBS
from magictailor.studio.server.shared import Content, TheStudio, image_file
from magictailor.studio.studio import DEMO_PAIR
from magictailor.studio.workspace import NotThere, checked_name

router = APIRouter(prefix="/api")
Name = Annotated[str, Field(max_length=200)]
Label = Annotated[str | None, Query(max_length=60)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NewPair(Body):
    name: Name
    labels: list[Name] = Field(min_length=1, max_length=9)


class WorldPair(Body):
    seed: int = Field(DEMO_PAIR, ge=0, lt=2**32)


class Named(Body):
    name: Name


class Labelled(Body):
    label: Name
    word: Name | None = None


class Arrangement(Body):
    samples: list[list[Name]] = Field(max_length=9)


class Suggestion(Body):
    """One of ``word``, ``box`` and ``clicks``."""

    model: Name = "grabcut"
    word: Name | None = None
    threshold: float = Field(0.25, ge=0, le=1)
    box: tuple[float, float, float, float] | None = None
    clicks: list[tuple[float, float, bool]] | None = Field(None, max_length=200)

    @model_validator(mode="after")
    def _one_kind(self) -> "Suggestion":
        if sum(value is not None for value in (self.word, self.box, self.clicks)) != 1:
            raise ValueError("give one of word, box and clicks")
        return self


@router.get("/pairs")
def list_pairs(studio: TheStudio) -> list[dict[str, Any]]:
    pairs = []
    for id in studio.pairs.ids():
        try:
            pair = studio.pairs.read(id)
        except InputError:
            continue
        photos = [photo for sample in pair.samples for photo in sample.photos[:1]]
        labels = [sample.label for sample in pair.samples]
        pairs.append({"id": id, "name": pair.name, "labels": labels, "covers": photos})
    return pairs


@router.post("/pairs", status_code=201)
def create_pair(studio: TheStudio, new: NewPair) -> dict[str, Any]:
    return studio.pair(studio.pairs.create(new.name, new.labels))


@router.post("/pairs/world", status_code=201)
def world_pair(studio: TheStudio, new: WorldPair) -> dict[str, Any]:
    return studio.pair(adopt_from_world(studio.pairs, new.seed))


@router.post("/folders", status_code=201)
def new_folder(studio: TheStudio) -> dict[str, str]:
    return {"id": studio.new_folder()}


@router.put("/folders/{id}", status_code=204)
def stage(studio: TheStudio, id: str, path: Annotated[str, Query(max_length=600)], content: Content) -> None:
    studio.stage(id, path, content)


@router.post("/folders/{id}/pair", status_code=201)
def adopt_folder(studio: TheStudio, id: str, named: Named) -> dict[str, Any]:
    return studio.pair(studio.adopt_folder(id, named.name))


@router.get("/pairs/{id}")
def read_pair(studio: TheStudio, id: str, model: str = "embedded") -> dict[str, Any]:
    return studio.pair(id, model)


@router.patch("/pairs/{id}")
def rename_pair(studio: TheStudio, id: str, named: Named) -> dict[str, Any]:
    studio.pairs.rename(id, named.name)
    return _updated(studio, id)


@router.delete("/pairs/{id}", status_code=204)
def delete_pair(studio: TheStudio, id: str) -> None:
    studio.pairs.delete(id)
    studio.live.publish(("pair", {"id": id}))


@router.post("/pairs/{id}/undelete")
def undelete_pair(studio: TheStudio, id: str) -> dict[str, Any]:
    studio.pairs.undelete(id)
    return _updated(studio, id)


@router.post("/pairs/{id}/samples", status_code=201)
def add_sample(studio: TheStudio, id: str, labelled: Labelled) -> dict[str, Any]:
    studio.pairs.add_sample(id, labelled.label)
    return _updated(studio, id)


@router.patch("/pairs/{id}/samples/{sample}")
def relabel(studio: TheStudio, id: str, sample: int, labelled: Labelled) -> dict[str, Any]:
    studio.pairs.relabel(id, sample, labelled.label, labelled.word)
    return _updated(studio, id)


@router.delete("/pairs/{id}/samples/{sample}")
def remove_sample(studio: TheStudio, id: str, sample: int) -> dict[str, Any]:
    studio.pairs.remove_sample(id, sample)
    return _updated(studio, id)


@router.post("/pairs/{id}/samples/{sample}/photos", status_code=201)
def add_photo(
    studio: TheStudio,
    id: str,
    sample: int,
    name: Annotated[str, Query(max_length=300)],
    content: Content,
    instead: Annotated[str | None, Query(max_length=200)] = None,
) -> dict[str, Any]:
    added = studio.pairs.add(id, sample, name, content, instead=instead)
    return {"added": added, **_updated(studio, id)}


@router.put("/pairs/{id}/arrangement")
def arrange(studio: TheStudio, id: str, arrangement: Arrangement) -> dict[str, Any]:
    studio.pairs.arrange(id, arrangement.samples)
    return _updated(studio, id)


@router.get("/pairs/{id}/photos/{photo}")
def get_photo(studio: TheStudio, id: str, photo: str) -> FileResponse:
    return image_file(studio.pairs.photo(id, photo), fixed=True)


@router.get("/pairs/{id}/photos/{photo}/thumb")
def get_thumb(studio: TheStudio, id: str, photo: str) -> FileResponse:
    return image_file(studio.workspace.find("pairs", id, THUMBS, f"{checked_name(photo)}.webp"), fixed=True)


@router.delete("/pairs/{id}/photos/{photo}")
def remove_photo(studio: TheStudio, id: str, photo: str) -> dict[str, Any]:
    studio.pairs.remove(id, photo)
    return _updated(studio, id)


@router.post("/pairs/{id}/photos/{photo}/restore")
def restore_photo(studio: TheStudio, id: str, photo: str) -> dict[str, Any]:
    studio.pairs.restore(id, checked_name(photo))
    return _updated(studio, id)


@router.get("/pairs/{id}/photos/{photo}/mask")
def get_mask(studio: TheStudio, id: str, photo: str, without: Label = None) -> FileResponse:
    path = mask_path(studio.pairs.folder(id), checked_name(photo), checked_other(studio.pairs, id, photo, without))
    if not path.is_file() or path.is_symlink():
        raise NotThere(f"{photo}: no mask yet", "make one")
    return image_file(path, fixed=False)


@router.put("/pairs/{id}/photos/{photo}/mask")
def put_mask(studio: TheStudio, id: str, photo: str, content: Content, without: Label = None) -> dict[str, Any]:
    save_mask(studio.pairs, id, checked_name(photo), content, without=without)
    return _updated(studio, id)


@router.delete("/pairs/{id}/photos/{photo}/mask")
def delete_mask(studio: TheStudio, id: str, photo: str, without: Label = None) -> dict[str, Any]:
    remove_mask(studio.pairs, id, checked_name(photo), without=without)
    return _updated(studio, id)


@router.post("/pairs/{id}/photos/{photo}/suggest")
def suggest(studio: TheStudio, id: str, photo: str, suggestion: Suggestion) -> Response:
    path = studio.pairs.photo(id, photo)
    request = suggestion.model_dump(exclude_none=True)
    png, note = studio.suggester.mask(path, **request)
    return Response(png, media_type="image/png", headers={"X-Note": quote(note), "Cache-Control": "no-store"})


@router.get("/pairs/{id}/masks.zip")
def export_masks(studio: TheStudio, id: str) -> Response:
    folder, content = studio.pairs.folder(id), io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted((folder / MASKS).glob("*.png")):
            archive.write(path, path.name)
    headers = {"Content-Disposition": f'attachment; filename="{id}-masks.zip"'}
    return Response(content.getvalue(), media_type="application/zip", headers=headers)


def _updated(studio: TheStudio, id: str) -> dict[str, Any]:
    """The pair as it is now; other open pages are told that it changed."""
    studio.live.publish(("pair", {"id": id}))
    return studio.pair(id)
