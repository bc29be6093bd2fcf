"""From a spec to an attachment: its files and models, read."""

from collections.abc import Callable
from typing import Any

from magictailor.attachments import control, csgo, from_image, style
from magictailor.attachments.contract import Attachment
from magictailor.attachments.specs import CSGO, AttachmentSpec, Control, FromImage, Style
from magictailor.backbones import Backbone

LOADERS: dict[type[AttachmentSpec], Callable[[Any, Backbone], Attachment]] = {
    FromImage: from_image.load,
    Control: control.load,
    Style: style.load,
    CSGO: csgo.load,
}


def load_attachment(spec: AttachmentSpec, backbone: Backbone) -> Attachment:
    """Read what a checked spec needs.

    Raises:
        InputError: something is missing or does not fit the backbone.
    """
    return LOADERS[type(spec)](spec, backbone)
