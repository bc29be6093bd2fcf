"""What all routes share."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import FileResponse
from starlette.requests import ClientDisconnect

from magictailor.common.errors import InputError
from magictailor.studio.studio import Studio


def _studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


async def _content(request: Request) -> bytes:
    """The body. Raises InputError: it is empty or was cut short."""
    try:
        content = await request.body()
    except ClientDisconnect as error:
        raise InputError("the upload was cut short", "send it again") from error
    if not content:
        raise InputError("the upload is empty", "choose a file")
    return content


TheStudio = Annotated[Studio, Depends(_studio)]
Content = Annotated[bytes, Depends(_content)]


def image_file(path: Any, *, fixed: bool) -> FileResponse:
    """An image from disk; ``fixed``: its content never changes under this address."""
    cached = "private, max-age=31536000, immutable" if fixed else "no-cache"
    return FileResponse(path, headers={"Cache-Control": cached})
