"""A stand-in for CSGO's checkout: own code with the real constructor and calls, and tiny random weights in its format."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import controlnets
from magictailor.attachments.csgo import CONTROLNET, ENCODER, WEIGHTS
from magictailor.common.tensors import write_tensors

WIDTH, CONTENT_TOKENS, STYLE_TOKENS = 8, 2, 3
FILES = {
    "ip_adapter/__init__.py": "from .ip_adapter import CSGO",
    "ip_adapter/utils.py": """
BLOCKS = {"content": ["down_blocks"], "style": ["up_blocks"]}
controlnet_BLOCKS = {"content": [], "style": ["down_blocks"]}
""",
    "ip_adapter/ip_adapter.py": """
import numpy, torch
from torch import nn
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.pipelines.controlnet import MultiControlNetModel  # where it was when its code was written
from transformers import CLIPVisionModelWithProjection


class Tokens(nn.Module):
    def __init__(self, count, inner, width):
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(1, count, width))
        self.proj_in = nn.Linear(inner, width)

    def forward(self, features):
        return self.latents + self.proj_in(features.mean(1, keepdim=True))


class Processor(nn.Module):
    def __init__(self, kind, counts, width, inner):
        super().__init__()
        self.kind, self.counts, self.scale = kind, counts, 1.0
        if kind:
            self.to_k_ip, self.to_v_ip = (nn.Linear(width, inner, bias=False) for _ in range(2))

    def forward(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        if encoder_hidden_states is None:
            return AttnProcessor2_0()(attn, hidden_states)
        rest = encoder_hidden_states.shape[1] - sum(self.counts)
        text, content, style = encoder_hidden_states.split([rest, *self.counts], 1)
        made = AttnProcessor2_0()(attn, hidden_states, text)
        if not self.kind:
            return made
        tokens = {"content": content, "style": style}[self.kind]
        weights = (hidden_states @ self.to_k_ip(tokens).transpose(1, 2)).softmax(-1)
        return made + self.scale * weights @ self.to_v_ip(tokens)


class CSGO:
    seen = []  # of each call: the content's bytes, the prompt and the seed

    def __init__(self, sd_pipe, image_encoder_path, ip_ckpt, device, num_content_tokens=4, num_style_tokens=4,
                 target_content_blocks=["block"], target_style_blocks=["block"], content_image_encoder_path=None,
                 controlnet_adapter=False, controlnet_target_content_blocks=None, controlnet_target_style_blocks=None,
                 content_model_resampler=False, style_model_resampler=False):
        assert controlnet_adapter and content_model_resampler and style_model_resampler
        self.pipe, self.device, self.ip_ckpt = sd_pipe.to(device), device, ip_ckpt
        self.counts = num_content_tokens, num_style_tokens
        for network, content, style in (
            (self.pipe.unet, target_content_blocks, target_style_blocks),
            (self.pipe.controlnet, controlnet_target_content_blocks, controlnet_target_style_blocks),
        ):
            network.set_attn_processor({n: self.processor(network, n, content, style) for n in network.attn_processors})
        read = CLIPVisionModelWithProjection.from_pretrained
        self.content_image_encoder, self.image_encoder = (read(image_encoder_path).to(device, torch.float16) for _ in "ab")
        width, inner = self.pipe.unet.config.cross_attention_dim, self.image_encoder.config.hidden_size
        self.content_image_proj_model, self.style_image_proj_model = (
            Tokens(count, inner, width).to(device, torch.float16) for count in self.counts
        )
        self.load_ip_adapter()

    def processor(self, network, name, content, style):
        layer = network.get_submodule(name.removesuffix(".processor"))
        kinds = [kind for kind, blocks in (("content", content), ("style", style)) if name.startswith(tuple(blocks))]
        kinds = [] if "attn1" in name else kinds
        width = network.config.cross_attention_dim
        return Processor(kinds[0] if kinds else "", self.counts, width, layer.inner_dim).to(self.device, torch.float16)

    def load_ip_adapter(self):
        torch.load(self.ip_ckpt, map_location="cpu")

    def tokens(self, image, encoder, project):
        side = encoder.config.image_size
        pixels = torch.from_numpy(numpy.array(image.resize((side, side)))).permute(2, 0, 1)[None] / 127.5 - 1
        return project(encoder(pixels.to(self.device, torch.float16), output_hidden_states=True).hidden_states[-2])

    def generate(self, pil_content_image, pil_style_image, prompt=None, negative_prompt=None, content_scale=1.0,
                 style_scale=1.0, num_samples=4, seed=None, content_image_embeds=None, style_image_embeds=None,
                 num_inference_steps=30, neg_content_emb=None, neg_content_prompt=None, neg_content_scale=1.0, **kwargs):
        assert num_samples == 1
        self.seen.append((pil_content_image.tobytes(), prompt, seed))
        for network in (self.pipe.unet, self.pipe.controlnet):
            for processor in network.attn_processors.values():
                processor.scale = content_scale if getattr(processor, "kind", "") == "content" else style_scale
        own = torch.cat([
            self.tokens(pil_content_image, self.content_image_encoder, self.content_image_proj_model),
            self.tokens(pil_style_image, self.image_encoder, self.style_image_proj_model),
        ], 1)
        texts = self.pipe.encode_prompt(prompt, num_images_per_prompt=1, do_classifier_free_guidance=True, negative_prompt=negative_prompt)
        return self.pipe(
            prompt_embeds=torch.cat([texts[0], own], 1), negative_prompt_embeds=torch.cat([texts[1], own * 0], 1),
            pooled_prompt_embeds=texts[2], negative_pooled_prompt_embeds=texts[3],
            num_inference_steps=num_inference_steps, generator=torch.Generator(self.device).manual_seed(seed), **kwargs,
        ).images
""",
}


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape) * 0.5


def tensors(unet: Any) -> dict[str, Tensor]:
    """Weights for a U-Net: content on the way down, style on the way up, and style in the ControlNet's way down."""
    width = unet.config.cross_attention_dim
    found: dict[str, Tensor] = {}
    for part, count in (("content_image_proj", CONTENT_TOKENS), ("style_image_proj", STYLE_TOKENS)):
        found[f"{part}.latents"] = _random(1, count, width)
        found |= {f"{part}.proj_in.weight": _random(width, WIDTH), f"{part}.proj_in.bias": _random(width)}
    for number, name in enumerate(unet.attn_processors):
        layer = unet.get_submodule(name.removesuffix(".processor"))
        for tensor in ("to_k_ip", "to_v_ip"):
            if "attn2" in name and not name.startswith("mid"):
                found[f"ip_adapter.{number}.{tensor}.weight"] = _random(layer.inner_dim, width)
            if "attn2" in name and name.startswith("down"):
                found[f"controlnet_adapter_modules.{name}.{tensor}.weight"] = _random(layer.inner_dim, width)
    return found


def save(pipeline: Any, folder: Path) -> Path:
    """The checkout, with its weights, image encoder and ControlNet where its README puts them."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    controlnets.save("sdxl", pipeline, folder / CONTROLNET)
    torch.manual_seed(2)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPVisionConfig(**sizes, image_size=16, patch_size=8, projection_dim=WIDTH)
    CLIPVisionModelWithProjection(config).save_pretrained(folder / ENCODER)
    (folder / WEIGHTS).parent.mkdir()
    write_tensors(folder / WEIGHTS, tensors(pipeline.unet))
    return folder
