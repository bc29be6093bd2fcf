"""What joins the generation of pictures without changing the run: pictures to start from, control maps, style images."""

from magictailor.attachments.contract import Attachment, Request, records
from magictailor.attachments.control import Control
from magictailor.attachments.from_image import FromImage
from magictailor.attachments.sampling import load_attachments, sample_attached
from magictailor.attachments.style import Style

__all__ = ["Attachment", "Control", "FromImage", "Request", "Style", "load_attachments", "records", "sample_attached"]
