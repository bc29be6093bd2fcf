"""From a finished run to pictures: by a plain diffusers pipeline, in two stages, or into a region of another picture."""
