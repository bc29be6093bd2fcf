"""Training of the IP-Adapter that draws in the style of a picture, next to the frozen embedded base.

It sees two renders with the same treatment (a watercolour, clay, none), and reads the first by a small image encoder. The second
is denoised with a caption that does not name the treatment. In each layer that reads captions, the adapter learns to add what the
treatment's name would have changed: the base knows treatments by name.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from magictailor.backbones import Backbone, load_backbone
from magictailor.common.events import Listener, ignore
from magictailor.common.files import write_json
from magictailor.common.logging import quiet_loading
from magictailor.common.tensors import write_tensors
from magictailor.generation.protocol import TREATMENTS
from magictailor.world.captions import caption, caption_rng
from magictailor.world.embedded import SIZE, TEXT_WIDTH
from magictailor.world.scene import random_scene
from magictailor.world.training.adapter import AdapterTrainer, AdapterTraining, Renders, compact, train_adapter
from magictailor.world.training.denoiser import Velocity
from magictailor.world.training.output import replace_folder
from magictailor.world.training.rendering import HELD_OUT, token_ids
from magictailor.world.training.state import generator
from magictailor.world.training.style_scores import style_scores
from magictailor.world.training.style_teacher import Teacher, readers

STYLES: tuple[str | None, ...] = (None, *TREATMENTS)
WIDTH, TOKENS = 96, 4  # of the image encoder; per picture
WITHOUT_PICTURE = 0.1  # share of the examples, as guidance needs it
NAMING = 0.1  # weight of the loss that asks the encoder for the treatment's name


class StyleTraining(AdapterTraining):
    """The recipe. A fifth of the renders has a treatment."""


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
    mean, spread = (
        torch.tensor(values, device=images.device)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    )
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / spread


def attach_new(unet: Any) -> None:
    """An IP-Adapter in the U-Net. Its keys begin as the caption's; its values begin as zero, so that it changes nothing."""
    layers = {
        f"{2 * i + 1}.{ours}_ip.weight": getattr(attention, ours).weight.detach().clone() * scale
        for i, attention in enumerate(readers(unet))
        for ours, scale in (("to_k", 1.0), ("to_v", 0.0))
    }
    projection = nn.Linear(WIDTH, TOKENS * TEXT_WIDTH)
    image_proj = {f"proj.{name}": value.detach() for name, value in projection.state_dict().items()}
    image_proj |= {f"norm.{name}": value for name, value in nn.LayerNorm(TEXT_WIDTH).state_dict().items()}
    parts = {"image_proj": image_proj, "ip_adapter": layers}
    unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    if unet.device.type != "cpu":
        return
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
    for i, attention in enumerate(readers(unet)):
        processor = attention.processor
        out[f"ip_adapter.{2 * i + 1}.to_k_ip.weight"] = processor.to_k_ip[0].weight
        out[f"ip_adapter.{2 * i + 1}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    return {name: compact(value) for name, value in out.items()}


class Styled:
    """The frozen U-Net with the IP-Adapter, for the pictures' ``embeddings`` [N, 96]."""

    def __init__(self, unet: Any) -> None:
        self.unet, self.embeddings = unet, torch.zeros(0)

    def tokens(self) -> Tensor:
        """What the layers read of the pictures, [N, 4, width of the text]."""
        projected: Tensor = self.unet.encoder_hid_proj([self.embeddings[:, None]])[0]
        return projected.flatten(1, 2)

    def __call__(self, noisy: Tensor, times: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> Any:
        seen = {"image_embeds": [self.embeddings[:, None]]}
        return self.unet(noisy, times, encoder_hidden_states, added_cond_kwargs=seen, return_dict=return_dict)


def _named(text: str, treatment: str | None) -> str:
    """The caption with the treatment's name."""
    if treatment is None:
        return text
    name = TREATMENTS[treatment]
    return f"{text}, {name}" if text else f"a photo {name}"


class Treated:
    """Which renders have which treatment; ``tokens`` of captions without its name and with it, [N, captions, 77]."""

    def __init__(self, first: int, count: int, captions: int) -> None:
        scenes = [random_scene(seed) for seed in range(first, first + count)]
        self.style = torch.tensor([STYLES.index(scene.treatment) for scene in scenes])
        plain = [replace(scene, treatment=None) for scene in scenes]
        texts = [caption(s, caption_rng(first + i, d)) for i, s in enumerate(plain) for d in range(captions)]
        named = [_named(text, STYLES[int(self.style[i // captions])]) for i, text in enumerate(texts)]
        self.tokens, self.named = (
            torch.from_numpy(token_ids(t)).reshape(count, captions, -1).long() for t in (texts, named)
        )
        self.members = [torch.nonzero(self.style == n)[:, 0] for n in range(len(STYLES))]
        self.styles = [n for n, members in enumerate(self.members) if len(members) > 1]

    def others(self) -> Tensor:
        """For each render the next of its style; itself, if it is the only one."""
        found = torch.arange(len(self.style))
        for members in self.members:
            found[members] = members.roll(-1)
        return found

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


class StyleTrainer(AdapterTrainer):
    """The IP-Adapter and its image encoder."""

    kind = "style"

    def __init__(self, folder: Path, renders: Renders, recipe: StyleTraining, base: Backbone) -> None:
        self.recipe, networks = recipe, dict(base.networks)
        self.treated = Treated(0, recipe.pictures, recipe.captions)
        torch.manual_seed(recipe.seed)
        self.unet: Any = networks["unet"]
        self.encoder = new_encoder().to(base.device).train()
        self.encoder.set_attn_implementation("eager")
        self.namer = nn.Linear(WIDTH, len(STYLES)).to(base.device)
        self.task = Velocity({"unet": self.unet, "text_encoder": networks["text_encoder"]})
        attach_new(self.unet)
        self.styled, self.teacher = Styled(self.unet), Teacher(self.unet)
        self.task.predict = self.styled
        layers: list[Any] = [self.unet.encoder_hid_proj, *(attention.processor for attention in readers(self.unet))]
        adapter = nn.ModuleList(layers)
        super().__init__(folder, recipe, renders, [self.encoder, adapter.requires_grad_(True), self.namer])

    def step(self) -> dict[str, Tensor]:
        recipe, examples, device = self.recipe, self.renders.examples, self.task.device
        random = generator(recipe.seed, self.trainee.step)
        shown, drawn = self.treated.draw(recipe.batch, random)
        wording = torch.randint(recipe.captions, (recipe.batch,), generator=random)
        blind = torch.rand(recipe.batch, generator=random) < WITHOUT_PICTURE
        latents, *_ = examples.rows(drawn, torch.zeros_like(drawn))
        embeddings = self.encoder(prepared(examples.images[shown])).image_embeds
        naming = cross_entropy(self.namer(embeddings), self.treated.style[shown].to(device))
        self.styled.embeddings = embeddings.masked_fill(blind[:, None].to(device), 0)
        plain = self.treated.tokens[drawn, wording].to(device)
        named = torch.where(blind[:, None], self.treated.tokens[drawn, wording], self.treated.named[drawn, wording])
        with torch.no_grad():
            own = generator(recipe.seed + 1, self.trainee.step, device)
            self.task.error(latents, plain, *self.task.draws(latents, own))
            encode = self.task.networks["text_encoder"]
            texts = [encode(input_ids=ids).last_hidden_state for ids in (plain, named.to(device))]
        loss = self.teacher.error(self.styled.tokens(), *texts)
        self.trainee.update(loss + NAMING * naming)
        return {"loss": loss.detach(), "naming": naming.detach()}

    def held_out(self) -> dict[str, float]:
        """With a picture of the same style, where there is another one, and without any."""
        held, latents = self.renders.held, self.renders.held_latents
        treated = Treated(HELD_OUT, len(held), 1)
        with self.trainee.averaged(), torch.no_grad():
            pictures = torch.from_numpy(held.images)[treated.others()]
            shown = self.encoder(prepared(pictures).to(self.task.device)).image_embeds
            found = {}
            for name, embeddings in (("held out", shown), ("held out without", torch.zeros_like(shown))):
                self.styled.embeddings = embeddings
                found[name] = self.task.held_out(latents, treated.tokens[:, 0].to(self.task.device), len(latents))
        return found

    def write(self, target: Path, record: Mapping[str, Any]) -> None:
        """The IP-Adapter's file, and the image encoder's folder."""
        new = target.with_name(f".{target.name}.new")
        new.mkdir(exist_ok=True)
        with self.trainee.averaged():
            write_tensors(new / "ip-adapter.safetensors", adapter_tensors(self.unet))
            encoder = new_encoder()
            encoder.load_state_dict(self.encoder.state_dict())
            encoder.requires_grad_(False)
            for weight in encoder.parameters():
                weight.data = compact(weight)
            encoder.save_pretrained(new / "image_encoder")
        write_json(new / "training.json", record)
        replace_folder(new, target)

    def scores(self, target: Path, count: int) -> tuple[str, dict[str, float], Image.Image]:
        return "style right", *style_scores(target, max(1, count // len(TREATMENTS)))


def train_style(
    output: Path, recipe: StyleTraining, device: str = "cpu", *, workers: int = 2, listen: Listener = ignore
) -> dict[str, Any]:
    """Train in ``output``; writes ``style/`` with the IP-Adapter, its image encoder and the record, and
    ``samples.png``.

    Args:
        workers: number of rendering processes.

    Returns:
        The record: recipe, base, losses, and how often the judge sees the shown picture's treatment.

    Raises:
        InputError: the folder holds other files or another training; nothing has been written.
    """
    quiet_loading()
    base = load_backbone("embedded", device=device, precision="fp32")
    make = partial(StyleTrainer, recipe=recipe, base=base)
    return train_adapter(output, recipe, make, {"base": base.digest_as_loaded}, base.device, workers, listen)
