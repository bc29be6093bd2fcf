"""What joins the generation of pictures without changing the run: pictures to start from, control maps, style images."""

from magictailor.attachments.requests import Control, FromImage, Request, Style

__all__ = ["Control", "FromImage", "Request", "Style"]
