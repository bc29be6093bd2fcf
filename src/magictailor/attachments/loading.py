"""From a request to an attachment: its files and models, read."""

from collections.abc import Callable
from typing import Any

from magictailor.attachments import control, csgo, from_image, style
from magictailor.attachments.contract import Attachment
from magictailor.attachments.requests import CSGO, Control, FromImage, Request, Style
from magictailor.backbones import Backbone

LOADERS: dict[type[Request], Callable[[Any, Backbone], Attachment]] = {
    FromImage: from_image.load,
    Control: control.load,
    Style: style.load,
    CSGO: csgo.load,
}


def load_attachment(request: Request, backbone: Backbone) -> Attachment:
    """Read what a checked request needs.

    Raises:
        InputError: something is missing or does not fit the backbone.
    """
    return LOADERS[type(request)](request, backbone)
