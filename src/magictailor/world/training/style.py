"""Training of the IP-Adapter that draws in the style of a picture, next to the frozen embedded base.

It sees two renders with the same treatment (a watercolour, clay, none). It reads the first by a small image encoder, and the
second is denoised with a caption that does not name the treatment.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from magictailor.backbones import Backbone, load_backbone
from magictailor.common.events import Listener, Progress, ignore
from magictailor.common.files import append_lines, write_json
from magictailor.common.logging import quiet_loading
from magictailor.common.pictures import save_png
from magictailor.generation.protocol import TREATMENTS
from magictailor.world.captions import caption, caption_rng
from magictailor.world.embedded import SIZE, TEXT_WIDTH
from magictailor.world.scene import random_scene
from magictailor.world.training.denoiser import Velocity
from magictailor.world.training.examples import Examples
from magictailor.world.training.latents import Renders, encoded_renders
from magictailor.world.training.output import replace_folder
from magictailor.world.training.rendering import token_ids
from magictailor.world.training.state import Trainee, claimed, generator
from magictailor.world.training.style_scores import style_scores

STYLES: tuple[str | None, ...] = (None, *TREATMENTS)
WIDTH, TOKENS = 96, 4  # of the image encoder; per picture
WITHOUT_PICTURE = 0.1  # share of the examples, as guidance needs it
NAMING = 0.1  # weight of the loss that asks the encoder for the treatment's name
LOG_STEPS, WARMUP = 25, 100
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIPImageProcessor's


class StyleTraining(Renders):
    """The recipe. A fifth of the renders has a treatment.

    The result depends on the recipe alone, and the training can be interrupted.
    """

    steps: int = Field(6_000, ge=1)
    batch: int = Field(24, ge=1, le=65_536)
    lr: float = Field(3e-4, gt=0, le=1)  # AdamW's; Muon's is ten times as large
    ema: float = Field(0.998, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)
    samples: int = Field(8, ge=0, le=64)  # per treatment
    save_seconds: float = Field(120, gt=0)


def new_encoder() -> CLIPVisionModelWithProjection:
    """Four layers of 96 channels on 16 x 16 patches, 0.5 M parameters."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH, intermediate_size=4 * WIDTH, projection_dim=WIDTH, num_hidden_layers=4,
            num_attention_heads=3, image_size=SIZE, patch_size=8,
        )
    )  # fmt: skip


def prepared(images: Tensor) -> Tensor:
    """Images uint8 [N, S, S, 3] as CLIPImageProcessor gives them to the encoder, [N, 3, S, S]."""
    mean, spread = torch.tensor(MEAN)[:, None, None], torch.tensor(SPREAD)[:, None, None]
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / spread


def _readers(unet: Any) -> list[tuple[str, Any]]:
    """Names and modules of the layers that read captions, in the order in which an IP-Adapter's file numbers them."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors if ".attn2." in name]
    return [(name, unet.get_submodule(name)) for name in names]


def attach_new(unet: Any) -> None:
    """An IP-Adapter in the U-Net. Its keys begin as the caption's; its values begin as zero, so that it changes nothing."""
    readers = enumerate(attention for _, attention in _readers(unet))
    layers = {
        f"{2 * i + 1}.{ours}_ip.weight": getattr(attention, ours).weight.detach().clone() * scale
        for i, attention in readers
        for ours, scale in (("to_k", 1.0), ("to_v", 0.0))
    }
    projection = nn.Linear(WIDTH, TOKENS * TEXT_WIDTH)
    image_proj = {f"proj.{name}": value.detach() for name, value in projection.state_dict().items()}
    image_proj |= {f"norm.{name}": value for name, value in nn.LayerNorm(TEXT_WIDTH).state_dict().items()}
    parts = {"image_proj": image_proj, "ip_adapter": layers}
    unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    slow_backward = {}  # fused attention is, at these sizes on a CPU
    for name, processor in unet.attn_processors.items():
        if not hasattr(processor, "to_k_ip"):
            slow_backward[name] = AttnProcessor()
            continue
        plain: Any = IPAdapterAttnProcessor(processor.hidden_size, processor.cross_attention_dim, (TOKENS,))
        plain.load_state_dict(processor.state_dict())
        slow_backward[name] = plain
    unet.set_attn_processor(slow_backward)


def adapter_tensors(unet: Any) -> dict[str, Tensor]:
    """The IP-Adapter in the U-Net as its published files have it."""
    projection = unet.encoder_hid_proj.image_projection_layers[0]
    names = {"image_embeds": "proj", "norm": "norm"}
    out = {
        f"image_proj.{new}.{name}": value
        for old, new in names.items()
        for name, value in getattr(projection, old).state_dict().items()
    }
    for i, (_, attention) in enumerate(_readers(unet)):
        processor = attention.processor
        out[f"ip_adapter.{2 * i + 1}.to_k_ip.weight"] = processor.to_k_ip[0].weight
        out[f"ip_adapter.{2 * i + 1}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    return {name: value.detach().half().contiguous() for name, value in out.items()}


class Styled:
    """The frozen U-Net with the IP-Adapter, for the pictures' ``embeddings`` [N, 96]."""

    def __init__(self, unet: Any) -> None:
        self.unet, self.embeddings = unet, torch.zeros(0)

    def __call__(self, noisy: Tensor, times: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> Any:
        seen = {"image_embeds": [self.embeddings[:, None]]}
        return self.unet(noisy, times, encoder_hidden_states, added_cond_kwargs=seen, return_dict=return_dict)


class Treated:
    """Which renders have which treatment, and captions that do not name it."""

    def __init__(self, first: int, count: int, captions: int) -> None:
        scenes = [random_scene(seed) for seed in range(first, first + count)]
        self.style = torch.tensor([STYLES.index(scene.treatment) for scene in scenes])
        plain = [replace(scene, treatment=None) for scene in scenes]
        texts = [caption(s, caption_rng(first + i, d)) for i, s in enumerate(plain) for d in range(captions)]
        self.tokens = torch.from_numpy(token_ids(texts)).reshape(count, captions, -1)
        self.members = [torch.nonzero(self.style == n)[:, 0] for n in range(len(STYLES))]
        self.styles = [n for n, members in enumerate(self.members) if len(members) > 1]

    def draw(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """``count`` renders and as many others of the same styles, which are equally frequent."""
        picked = torch.randint(len(self.styles), (count,), generator=random).tolist()
        two = []
        for style in (self.styles[i] for i in picked):
            members = self.members[style]
            a = int(torch.randint(len(members), (1,), generator=random))
            b = int(torch.randint(len(members) - 1, (1,), generator=random))
            two.append((members[a], members[b + (b >= a)]))
        shown, drawn = zip(*two, strict=True)
        return torch.stack(shown), torch.stack(drawn)


class StyleTrainer:
    """The IP-Adapter, its image encoder, their optimizer, and one step of their training."""

    def __init__(self, folder: Path, recipe: StyleTraining, base: Backbone, examples: Examples) -> None:
        self.recipe, self.examples = recipe, examples
        self.treated = Treated(0, recipe.pictures, recipe.captions)
        networks = dict(base.networks)
        torch.manual_seed(recipe.seed)
        self.unet: Any = networks["unet"]
        self.encoder = new_encoder().train()
        self.encoder.set_attn_implementation("eager")
        self.namer = nn.Linear(WIDTH, len(STYLES))
        self.task = Velocity({"unet": self.unet, "text_encoder": networks["text_encoder"]})
        attach_new(self.unet)
        self.styled = Styled(self.unet)
        self.task.predict = self.styled
        layers: list[Any] = [attention.processor for _, attention in _readers(self.unet)]
        projection: Any = self.unet.encoder_hid_proj
        adapter = nn.ModuleList([projection, *layers]).requires_grad_(True)
        self.trainee = Trainee(
            [self.encoder, adapter, self.namer], folder / "state.safetensors", recipe.lr, recipe.ema,
            lambda step: step / recipe.steps, warmup=WARMUP,
        )  # fmt: skip

    def step(self) -> tuple[Tensor, Tensor]:
        """One step; returns the loss of the drawing, and that of the name."""
        recipe, random = self.recipe, generator(self.recipe.seed, self.trainee.step)
        shown, drawn = self.treated.draw(recipe.batch, random)
        wording = torch.randint(recipe.captions, (recipe.batch,), generator=random)
        latents, _, weights = self.examples.rows(drawn, torch.zeros_like(drawn))
        embeddings = self.encoder(prepared(self.examples.images[shown])).image_embeds
        naming = cross_entropy(self.namer(embeddings), self.treated.style[shown])
        blind = torch.rand(recipe.batch, generator=random) < WITHOUT_PICTURE
        self.styled.embeddings = embeddings.masked_fill(blind[:, None], 0)
        tokens = self.treated.tokens[drawn, wording].long()
        loss = self.task.loss(latents, tokens, weights, *self.task.draws(latents, random))
        self.trainee.update(loss + NAMING * naming)
        return loss.detach(), naming.detach()

    def write(self, target: Path, record: Mapping[str, Any]) -> None:
        """The averaged weights in half precision, as ``load_ip_adapter`` and transformers read them, and the record."""
        new = target.with_name(f".{target.name}.new")
        new.mkdir(exist_ok=True)
        with self.trainee.averaged():
            save_file(adapter_tensors(self.unet), new / "ip-adapter.safetensors")
            encoder = new_encoder()
            encoder.load_state_dict(self.encoder.state_dict())
            encoder.half().save_pretrained(new / "image_encoder")
        write_json(new / "training.json", record)
        replace_folder(new, target)

    def train(self, save: Callable[[], None], log: Callable[[dict[str, float]], None]) -> None:
        saved = began = time.monotonic()
        first = self.trainee.step
        while not self.trainee.done():
            loss, naming = self.step()
            if self.trainee.step % LOG_STEPS == 0:
                speed = (self.trainee.step - first) * self.recipe.batch / (time.monotonic() - began)
                losses = {"loss": self.trainee.check(loss), "naming": self.trainee.check(naming)}
                log({**losses, "samples_per_second": speed})
            if time.monotonic() - saved > self.recipe.save_seconds:
                save()
                saved = time.monotonic()
        save()


def train_style(output: Path, recipe: StyleTraining, *, workers: int = 2, listen: Listener = ignore) -> dict[str, Any]:
    """Train on the CPU in ``output``; writes ``style/`` with the IP-Adapter, its image encoder and the record, and
    ``samples.png``.

    Args:
        workers: number of rendering processes.

    Returns:
        The record: recipe, base, losses, and how often the judge sees the shown picture's treatment.

    Raises:
        InputError: the folder holds something else; nothing has been written.
    """
    quiet_loading()
    base = load_backbone("embedded", device="cpu", precision="fp32")
    with claimed(output, recipe, ("steps", "samples", "save_seconds")) as folder:
        examples, _, _ = encoded_renders(folder, recipe, workers, listen)
        trainer = StyleTrainer(folder, recipe, base, examples)
        record: dict[str, Any] = {"recipe": recipe.model_dump(mode="json"), "base": base.digest_as_loaded}

        def log(metrics: dict[str, float]) -> None:
            step = trainer.trainee.step
            listen(Progress("style", step, recipe.steps, metrics))
            line = {"step": step, **{k: round(v, 5) for k, v in metrics.items()}}
            append_lines(folder / "metrics.jsonl", [json.dumps(line)])

        def save() -> None:
            trainer.trainee.save()
            record["steps"] = trainer.trainee.step
            listen(Progress("style", trainer.trainee.step, recipe.steps))
            trainer.write(folder / "style", record)

        trainer.train(save, log)
        if recipe.samples:
            record["style right"], sheet = style_scores(folder / "style", recipe.samples)
            save_png(sheet, folder / "samples.png")
            trainer.write(folder / "style", record)
        return record
