"""How much of the noise outside the mask does the autoencoder carry into it?

    python benchmarks/latent_noise.py --model embedded --pairs 12

Noise of the paper's intensity (0.5) is added outside the masks of the photos of tuning pairs of the world, and the change of
the latents is measured where the loss reads them: weighted with the mask, and in the cells that lie wholly inside. The unit is
the latents' own variance.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F

from magictailor.backbones.load import load_backbone
from magictailor.data import read_pair
from magictailor.data.training_images import shrink, training_images
from magictailor.techniques.degradation import degrade
from magictailor.world.pairs import world_pair, write_pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="a base that `train --model` takes")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--first", type=int, default=100_000_160, help="the first pair's seed")
    parser.add_argument("--alpha", type=float, default=0.5)
    options = parser.parse_args()
    backbone, random = load_backbone(options.model), torch.Generator().manual_seed(0)
    shape = backbone.latent_shape(backbone.size, backbone.size)
    no_noise, cell = torch.zeros(1, *shape), backbone.size // shape[-1]
    found: dict[str, list[float]] = defaultdict(list)
    for seed in range(options.first, options.first + options.pairs):
        with TemporaryDirectory() as folder:
            pair = read_pair(write_pair(world_pair(seed), Path(folder) / "pair"))
            images = training_images(pair, backbone.size, [shape[-2:]])
        for image in images:
            mask = image.mask[None]
            degraded = degrade(image.pixels, mask, torch.randn(image.pixels.shape, generator=random), options.alpha)
            before, after = (
                backbone.encode_images(p.reshape(1, *image.pixels.shape), no_noise) for p in (image.pixels, degraded)
            )
            change = (after - before).square().mean(1, keepdim=True) / before.var()
            touched = F.max_pool2d(mask, cell)
            inside = 1 - F.max_pool2d(1 - mask, cell)
            weights = {"read by the loss": shrink(mask, shape[-2:]), "wholly inside": inside, "outside": 1 - touched}
            for where, weight in weights.items():
                if weight.sum():
                    name = "concept" if image.sample == 0 else "component"
                    found[f"{name}, {where}"].append(float((change * weight).sum() / weight.sum()))
    print(json.dumps({name: round(float(np.mean(values)), 3) for name, values in sorted(found.items())}, indent=1))


if __name__ == "__main__":
    main()
