"""What joins the generation of pictures without changing the run: pictures to start from, control maps, style images."""

from magictailor.attachments.specs import CSGO, AttachmentSpec, Control, FromImage, Style

__all__ = ["CSGO", "AttachmentSpec", "Control", "FromImage", "Style"]
