"""From a finished run to images: prompts, two stages, or a region of another image; and the protocol's prompts."""
