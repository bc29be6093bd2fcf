"""Open each export with the oldest and the newest libraries that the READMEs promise, and compare the images.

    python benchmarks/stacks.py WORK

Packages of the older stack go into a folder of their own below WORK (`pip install --target`); torch is the installed one.
Each reader is a process that knows nothing of this package. Results: docs/experiments/stacks.md.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLD = ("diffusers==0.34.0", "transformers==4.54.1", "peft==0.17.0", "tokenizers==0.21.4", "huggingface_hub==0.34.4")
STACKS: dict[str, tuple[str, ...]] = {"oldest": OLD, "newest": ()}
PROMPT = "a photo of <figure> with <hat>"
READER = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch, diffusers, transformers, peft
kind, made, base, image = sys.argv[1:]
assert "magictailor" not in sys.modules
torch.set_num_threads(1)
pipe = diffusers.StableDiffusionPipeline.from_pretrained(made if kind == "merged" else base, safety_checker=None)
pipe.to(torch.float32)
pipe.set_progress_bar_config(disable=True)
prompt = "a photo of <figure> with <hat>"
if kind in ("diffusers", "kohya"):
    from pathlib import Path
    name = "pytorch_lora_weights" if kind == "diffusers" else "first"
    pipe.load_lora_weights(made, weight_name=name + ".safetensors")
    for word in ("figure", "hat"):
        pipe.load_textual_inversion(made + f"/first-{word}.safetensors", token=f"<{word}>")
random = torch.Generator().manual_seed(3)
out = pipe(prompt, num_inference_steps=8, guidance_scale=4.0, generator=random, output_type="np").images[0]
np.save(image, out)
print(json.dumps({m.__name__: m.__version__ for m in (diffusers, transformers, peft)}))
"""


def _export_all(work: Path) -> Path:
    """A run of a few strong steps on the embedded base, its exports, and the base in names that both stacks read."""
    from magictailor import personalize
    from magictailor.exports.older_readers import add_for_older_readers
    from magictailor.weights import EMBEDDED
    from magictailor.world.pairs import world_pair, write_pair

    base = work / "base"
    shutil.copytree(EMBEDDED, base)
    add_for_older_readers(base)
    pair = write_pair(world_pair(100000060), work / "pair")
    settings = ["phases.0.steps=4", "phases.1.steps=2", "optimisation.lr_scale=20", "sampling.preview_every=0"]
    run = personalize(pair, work / "first", settings=settings)
    for kind in ("diffusers", "kohya", "merged"):
        run.export(work / kind, kind)
    return base


def main(work: Path) -> None:
    import numpy as np

    work.mkdir(parents=True)
    base, images = _export_all(work), {}
    for stack, packages in STACKS.items():
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if packages:
            target = work / f"stack-{stack}"
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, *packages]
            subprocess.run(pip, check=True)
            environment["PYTHONPATH"] = str(target)
        for kind in ("base", "diffusers", "kohya", "merged"):
            image = work / f"{stack}-{kind}.npy"
            command = [sys.executable, "-c", READER, kind, work / kind, base, image]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{stack} {kind}: {done.stderr.strip().splitlines()[-1]}")
                continue
            images[stack, kind] = np.load(image)
            versions = json.loads(done.stdout.splitlines()[-1])
            own, plain = images[stack, kind], images.get((stack, "base"))
            other = images.get(("oldest", kind)) if stack != "oldest" else None
            lines = {
                "from the base": None if plain is None else float(np.abs(own - plain).max() * 255),
                "from the other stack": None if other is None else float(np.abs(own - other).max() * 255),
            }
            print(f"{stack} {kind}: {versions}; grey levels {lines}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
