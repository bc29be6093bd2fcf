"""What joins the generation of pictures without changing the run: pictures to start from, control maps, style images."""

from magictailor.attachments.requests import CSGO, Control, FromImage, Request, Style

__all__ = ["CSGO", "Control", "FromImage", "Request", "Style"]
