"""The picture of the guide to applications: img2img at three strengths, and a region, by the untrained embedded base.

``python benchmarks/application_pictures.py --output docs/images/applications.webp`` (two minutes on two busy cores)
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from magictailor.attachments import FromImage
from magictailor.attachments.sampling import load_attachments, sample_attached
from magictailor.backbones import load_backbone
from magictailor.backbones.sampling import SamplingOptions
from magictailor.common.pictures import grid, save_png
from magictailor.world.render import render
from magictailor.world.scene import random_scene

SCENE, PROMPT, STEPS, GUIDANCE = 2_000_000_002, "a person with red mohawk hair, in the snow", 20, 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    base = load_backbone("embedded", device="cpu")
    picture = Image.fromarray(render(random_scene(SCENE)).image)
    mask = np.zeros((128, 128), np.uint8)
    mask[20:64, 30:100] = 255
    with TemporaryDirectory() as folder:
        start, region = Path(folder, "picture.png"), Path(folder, "region.png")
        save_png(picture, start)
        save_png(Image.fromarray(mask), region)
        requests = [*(FromImage(start, strength) for strength in (0.2, 0.5, 0.8)), FromImage(start, region=region)]
        columns = []
        for request in requests:
            loaded = load_attachments(base, [request], STEPS)
            options = SamplingOptions(STEPS, GUIDANCE, batch=2)
            columns.append(list(sample_attached(base, [PROMPT] * 2, (0, 1), options, loaded)))
    titles = ["picture", "strength 0.2", "strength 0.5", "strength 0.8", "a region alone"]
    grid([[picture, *row] for row in zip(*columns, strict=True)], column_titles=titles).save(
        output, quality=90, method=6
    )


if __name__ == "__main__":
    main()
